#include "rl/policy_scores.h"

#include "loss/loss.h"
#include "loss/token_log_probs.h"

namespace dsft::rl {

PolicyScores score_policy(model::CausalLm& model, const Batch& batch, double temperature, nn::BlockHooks* hooks) {
  const torch::NoGradGuard no_grad;
  const nn::BlockRunner runner(nn::BlockRunner::Keep::kGraph, hooks);
  const at::Tensor hidden = model.hidden_states(batch, runner, /*training=*/nullptr);
  const loss::SupervisedTokens tokens = loss::supervised_tokens(batch);
  const bool isolates_rows = batch.policy && !batch.policy->prompt_lengths.empty();
  const loss::TokenLogProbs scores = loss::token_log_probs(model, hidden, tokens.rows, tokens.targets, runner, {},
                                                           {temperature, loss::Entropies::kValues, isolates_rows});
  return {scores.log_probs, scores.entropies};
}

}  // namespace dsft::rl
