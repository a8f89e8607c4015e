#include "evaluate/loss_evaluation.h"

#include <cmath>

#include "base/error.h"
#include "batch/batch.h"
#include "loss/loss.h"
#include "loss/token_log_probs.h"

namespace dsft::evaluate {
namespace {

std::vector<std::vector<int64_t>> plan_batches(const data::ExampleStore& rows, const PassSize& pass) {
  std::vector<std::vector<int64_t>> batches;
  int64_t num_tokens = 0;
  for (int64_t row = 0; row < rows.size(); ++row) {
    const bool is_full = batches.empty() || num_tokens + rows.length(row) > pass.max_tokens ||
                         static_cast<int64_t>(batches.back().size()) >= pass.max_rows;
    if (is_full) {
      batches.emplace_back();
      num_tokens = 0;
    }
    batches.back().push_back(row);
    num_tokens += rows.length(row);
  }
  return batches;
}

// Sums over one batch, fp64 [3]: losses, supervised tokens, tokens that were the likeliest.
at::Tensor sum_batch(model::CausalLm& model, const nn::BlockRunner& runner, const data::ExampleStore& rows,
                     const std::vector<int64_t>& indices) {
  std::vector<Document> documents;
  for (const int64_t row : indices) {
    data::Example example = rows.read(row);
    documents.push_back({std::move(example.ids), std::move(example.labels), row});
  }
  const Batch batch = make_batch(documents, /*epoch=*/0).to(model.device());
  const loss::SupervisedTokens supervised = loss::supervised_tokens(batch);
  const at::Tensor hidden = model.hidden_states(batch, runner, /*training=*/nullptr);
  const loss::TokenLogProbs result = loss::token_log_probs(model, hidden, supervised.rows, supervised.targets, runner);
  const at::Tensor num_tokens = torch::tensor(static_cast<double>(supervised.rows.numel()),
                                              at::TensorOptions(at::kDouble).device(model.device()));
  return torch::stack({-result.log_probs.to(at::kDouble).sum(), num_tokens, result.is_argmax.to(at::kDouble).sum()});
}

}  // namespace

LossEvaluation::LossEvaluation(std::shared_ptr<const data::ExampleStore> rows, PassSize pass)
    : rows_(std::move(rows)), batches_(plan_batches(*rows_, pass)) {
  if (rows_->size() == 0)
    fail(ErrorKind::kData, "there is no evaluation row; name files in data.eval or write data.eval_fraction.");
}

std::optional<std::map<std::string, double>> LossEvaluation::run(model::CausalLm& model,
                                                                 comm::Communicator& communicator,
                                                                 const train::EvaluationMoment& moment) {
  const torch::NoGradGuard no_grad;
  const nn::BlockRunner runner(nn::BlockRunner::Keep::kGraph, moment.hooks);
  const auto num_batches = static_cast<int64_t>(batches_.size());
  // each batch has a place of its own, so that adding up the ranks' zeros is exact and the order of the sum is always
  // the same
  at::Tensor sums = torch::zeros({num_batches, 3}, at::TensorOptions(at::kDouble).device(model.device()));
  for (int64_t first = 0; first < num_batches; first += communicator.size()) {
    if (moment.must_stop && moment.must_stop()) return std::nullopt;
    const int64_t own = first + communicator.rank();
    if (own < num_batches)
      sums[own].copy_(sum_batch(model, runner, *rows_, batches_[own]));
    else if (moment.hooks)  // a pass that counts for nothing: the others' hooks need this rank's parts
      sum_batch(model, runner, *rows_, batches_[0]);
  }
  sums = sums.to(at::kCPU);
  communicator.all_reduce(sums);
  const at::Tensor totals = sums.sum(0);
  const double num_tokens = totals[1].item<double>(), loss = totals[0].item<double>() / num_tokens;
  return std::map<std::string, double>{{"eval_loss", loss},
                                       {"eval_perplexity", std::exp(loss)},
                                       {"eval_mean_token_accuracy", totals[2].item<double>() / num_tokens},
                                       {"num_rows", static_cast<double>(rows_->size())},
                                       {"num_tokens", num_tokens}};
}

}  // namespace dsft::evaluate
