#include "loss/loss.h"
#include "loss/token_log_probs.h"

namespace dsft::loss {

SupervisedTokens supervised_tokens(const Batch& batch) {
  return {batch.supervised - 1, batch.labels.index_select(0, batch.supervised)};
}

namespace {

// Of values [N] of the supervised tokens.
at::Tensor weighted_sum(const at::Tensor& values, const Batch& batch) {
  return batch.weights.defined() ? (values * batch.weights).sum() : values.sum();
}

}  // namespace

std::vector<double> CausalLmLoss::counts(const std::vector<Batch>& micro_batches) const {
  double supervised = 0;
  for (const Batch& batch : micro_batches)
    supervised +=
        batch.weights.defined() ? batch.weights.sum().item<double>() : static_cast<double>(batch.supervised.numel());
  return {supervised};
}

LossResult CausalLmLoss::compute(model::CausalLm& model, const at::Tensor& hidden, const Batch& batch,
                                 const nn::BlockRunner& runner, const model::TrainingMode* training) const {
  const SupervisedTokens tokens = supervised_tokens(batch);
  const TokenLogProbs result =
      token_log_probs(model, hidden, tokens.rows, tokens.targets, runner,
                      model::dropout_keys(batch, model.has_head_dropout() ? training : nullptr));
  return {{{"loss", -weighted_sum(result.log_probs, batch), 0}},
          {{"mean_token_accuracy", weighted_sum(result.is_argmax, batch).to(at::kFloat), 0}}};
}

}  // namespace dsft::loss
