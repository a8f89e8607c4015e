#pragma once

#include <torch/types.h>

#include <string>
#include <vector>

#include "batch/batch.h"
#include "model/causal_lm.h"

namespace dsft::loss {

/// A number summed over tokens (or rows) of a micro-batch, to be divided by the update's total of the denominator it
/// names (numerics.md).
struct Sum {
  std::string name;
  at::Tensor value;        ///< 0-d; differentiable for terms of the loss
  size_t denominator = 0;  ///< index into Loss::counts
};

/// The largest or the smallest of some numbers of a micro-batch, reported as that of the whole update.
struct Extreme {
  std::string name;
  at::Tensor value;  ///< 0-d; -inf or inf: there is no number
  bool is_largest = true;
};

/// What a micro-batch adds to the update. There is at least one term, and the names are the same on every rank and in
/// every micro-batch: the trainer sums them as one vector.
struct LossResult {
  std::vector<Sum> terms;              ///< the loss is the sum of these over their denominators
  std::vector<Sum> metrics;            ///< reported, not trained
  std::vector<Extreme> extremes = {};  ///< likewise
};

/// What is minimised. Gives sums and never means, so that rows, packing, micro-batches and ranks cannot change the
/// result.
class Loss {
 public:
  virtual ~Loss() = default;

  /// This rank's part of each denominator of the update, from the host's labels alone (no synchronisation); the trainer
  /// sums them over ranks.
  virtual std::vector<double> counts(const std::vector<Batch>& micro_batches) const = 0;

  /// hidden [T, H] before the final norm, of `batch` on the model's device. `training`: as in hidden_states.
  virtual LossResult compute(model::CausalLm& model, const at::Tensor& hidden, const Batch& batch,
                             const nn::BlockRunner& runner, const model::TrainingMode* training) const = 0;

  /// Whether compute() enqueues the same for all batches of one shape (device::Graph): it reads nothing of them but
  /// device_tensors(), and leaves a supervised token of weight 0 out of every sum.
  virtual bool can_be_recorded() const { return false; }

  /// Whether an update in which a denominator is 0 is none of the user's faults: its sums are then divided by 1.
  virtual bool may_be_empty() const { return false; }
};

/// Cross-entropy of supervised tokens by their weights; denominator 0 counts them so. Metric: mean_token_accuracy.
class CausalLmLoss final : public Loss {
 public:
  std::vector<double> counts(const std::vector<Batch>& micro_batches) const override;
  LossResult compute(model::CausalLm& model, const at::Tensor& hidden, const Batch& batch,
                     const nn::BlockRunner& runner, const model::TrainingMode* training) const override;
  bool can_be_recorded() const override { return true; }
};

/// Rows whose next token is supervised, and those tokens: rows[i] + 1 is the position of targets[i].
struct SupervisedTokens {
  at::Tensor rows;     ///< int64 [N]
  at::Tensor targets;  ///< int64 [N]
};
SupervisedTokens supervised_tokens(const Batch& batch);

}  // namespace dsft::loss
