#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "device/device.h"
#include "device/moment.h"
#include "loss/loss.h"
#include "model/causal_lm.h"
#include "nn/block_runner.h"
#include "train/graphed_passes.h"
#include "watchdog/heart.h"
#include "zero/sharded_optimizer.h"

namespace dsft::train {

/// What an update computes with; all of it outlives the TrainingStep.
struct StepParts {
  model::CausalLm& model;
  const loss::Loss& loss;
  zero::ShardedOptimizer& optimizer;
  comm::Communicator& communicator;
  nn::BlockHooks* hooks = nullptr;
  at::Tensor learning_rates;  ///< fp64 on the model's device, by the number of updates applied before
  uint64_t seed = 42;
  watchdog::Heart* heart = nullptr;  ///< is told what is done; null: nobody
};

/// Parts of an update as they are enqueued.
enum class StepPart { kForward, kBackward, kOptimizer };

/// How an update is computed.
struct StepOptions {
  nn::BlockRunner::Keep keep = nn::BlockRunner::Keep::kGraph;  ///< kInput: layers are computed again in backward
  std::optional<GraphLimits> graphs = {};                      ///< none: nothing is recorded
  std::function<void(StepPart)> after_part = nullptr;          ///< for measurements; without graphs
};

/// Which micro-batches of a model with layers of so many weights are recorded: a larger one takes longer to compute
/// than to enqueue; it gains nothing, and its graph would keep memory.
GraphLimits graph_limits(int64_t weights_of_layer);

/// These limits where the device has CUDA graphs and the model and the loss can be recorded; else none.
std::optional<GraphLimits> possible_graphs(const model::CausalLm& model, const loss::Loss& loss);

/// What an update was, on the host.
struct StepNumbers {
  double loss = 0;                        ///< mean over all supervised tokens of the update, all ranks
  std::map<std::string, double> metrics;  ///< by name, over all ranks
  double grad_norm = 0;                   ///< before clipping
  double learning_rate = 0;               ///< the one the update used
  bool is_applied = true;                 ///< false: skipped, the gradients were not finite
};

/// A metric that is the largest or smallest of an update's numbers; absent where there is none.
struct ExtremeName {
  std::string name;
  bool is_largest = true;
  bool operator==(const ExtremeName&) const = default;
};

/// An update that has been enqueued.
struct EnqueuedStep {
  int64_t num_tokens = 0;            ///< of all ranks
  double loss_scale = 1;             ///< the one the update used; 1 but for fp16
  std::vector<std::string> metrics;  ///< their names
  std::vector<ExtremeName> extremes;
  device::Moment begin;            ///< of its work
  device::Moment optimizer_begin;  ///< when the last backward pass was done
  device::Moment end;              ///< of its work; it has passed once the numbers are read
  device::HostCopy numbers;  ///< fp64: the loss, the metrics, the extremes (the smallest ones negated), the gradient
                             ///< norm, the rate, whether it was applied

  /// Waits for the update. Collective.
  StepNumbers read(comm::Communicator& communicator) const;
};

/// Updates: forward pass, loss and backward pass of each micro-batch, then the optimizer's step. Small micro-batches
/// and the step are recorded as CUDA graphs where that is on. The host waits for nothing but fp16's loss scale and,
/// where a graph is recorded or gives its place to another, the device.
class TrainingStep final {
 public:
  /// Borrows what `parts` refers to. `options` with graphs take no after_part.
  TrainingStep(StepParts parts, StepOptions options);

  /// Enqueues update number `step`. Throws kData where nothing in it is supervised, unless the loss allows it.
  /// Collective.
  EnqueuedStep run(const std::vector<Batch>& micro_batches, int64_t step);

  /// Before the first update: passes over a micro-batch as in an update, which leave nothing behind, also where what
  /// they lack of memory is thrown.
  void rehearse(const Batch& batch);

  /// Whether passes over this micro-batch can be recorded. The optimizer's step is wherever graphs are on.
  bool records(const Batch& batch) const { return graphs_ && graphs_->takes(batch); }

 private:
  struct Totals;
  Totals count(const std::vector<Batch>& micro_batches, int64_t step) const;
  void set_denominators(const std::vector<double>& values);
  void pass_over(const Batch& batch, bool reduces);
  at::Tensor forward(const Batch& batch);
  void add_to_numbers(const at::Tensor& objective, const loss::LossResult& result);
  void passed(StepPart part) const;
  void enter(const char* part) const;

  StepParts parts_;
  StepOptions options_;
  nn::BlockRunner runner_;
  model::TrainingMode mode_;
  std::optional<GraphedPasses> graphs_;
  std::optional<device::Graph> optimizer_graph_;
  // at fixed addresses, for graphs
  at::Tensor denominators_;           // fp32 [D] on the device
  at::Tensor sums_;                   // fp64 on the device: the loss, then the metrics; made by the first pass
  std::vector<std::string> metrics_;  // their names
  at::Tensor extremes_;               // likewise, the smallest ones negated
  std::vector<ExtremeName> extreme_names_;
  int64_t step_ = 0;  // of the update under way
};

}  // namespace dsft::train
