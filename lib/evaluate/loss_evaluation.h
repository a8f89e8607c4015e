#pragma once

#include <memory>

#include "data/example_store.h"
#include "train/evaluation.h"

namespace dsft::evaluate {

/// The loss on evaluation rows: eval_loss = sum of the losses of all supervised tokens / their number, eval_perplexity
/// its exponential, eval_mean_token_accuracy the share of supervised tokens that the model holds likeliest, num_rows,
/// num_tokens (supervised tokens). Every row counts on exactly one rank; the batches and the order of the sums do not
/// depend on the number of ranks.
class LossEvaluation final : public train::Evaluation {
 public:
  /// `tokens_per_batch`: of one forward pass; a longer row has a pass of its own.
  explicit LossEvaluation(std::shared_ptr<const data::ExampleStore> rows, int64_t tokens_per_batch = 4096);

  std::string name() const override { return "loss"; }
  std::map<std::string, double> run(model::CausalLm& model, comm::Communicator& communicator) override;

 private:
  std::shared_ptr<const data::ExampleStore> rows_;
  std::vector<std::vector<int64_t>> batches_;  // rows of each
};

}  // namespace dsft::evaluate
