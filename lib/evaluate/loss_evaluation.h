#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "data/example_store.h"
#include "train/evaluation.h"

namespace dsft::evaluate {

/// How many rows a forward pass takes: as many as both bounds let in, and at least one.
struct PassSize {
  int64_t max_rows = std::numeric_limits<int64_t>::max();
  int64_t max_tokens = 4096;
};

/// The loss on evaluation rows: eval_loss = sum of the losses of all supervised tokens / their number, eval_perplexity
/// its exponential, eval_mean_token_accuracy the share of supervised tokens that the model holds likeliest, num_rows,
/// num_tokens (supervised tokens). Every row counts on exactly one rank; the batches and the order of the sums do not
/// depend on the number of ranks.
class LossEvaluation final : public train::Evaluation {
 public:
  explicit LossEvaluation(std::shared_ptr<const data::ExampleStore> rows, PassSize pass = {});

  std::string name() const override { return "loss"; }
  bool runs_by_blocks() const override { return true; }
  std::optional<std::map<std::string, double>> run(model::CausalLm& model, comm::Communicator& communicator,
                                                   const train::EvaluationMoment& moment = {}) override;

 private:
  std::shared_ptr<const data::ExampleStore> rows_;
  std::vector<std::vector<int64_t>> batches_;  // rows of each
};

}  // namespace dsft::evaluate
