#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "device/graph.h"
#include "optim/adamw.h"
#include "optim/loss_scaler.h"
#include "zero/flat_parameters.h"
#include "zero/host_optimizer.h"
#include "zero/host_share.h"
#include "zero/parameter_shards.h"
#include "zero/saved_state.h"

namespace dsft::zero {

/// How an optimizer works, from `zero` and `training`.
struct OptimizerOptions {
  int64_t stage = 0;
  bool overlaps_backward = true;  ///< reductions run beside the backward pass
  optim::AdamWOptions adamw = {};
  /// fp64 [n] on the parameters' device, by the number of updates applied before: beta1 of a schedule that moves it;
  /// undefined: adamw's.
  at::Tensor beta1s = {};
  double max_grad_norm = 1.0;  ///< 0 or less: no clipping
  /// Set for fp16: the loss is scaled, and the scale is agreed by all ranks.
  std::optional<optim::LossScalerOptions> loss_scaler = {};
  /// From stage 1 on: state and updates of all but LoRA's parameters in host memory.
  std::optional<HostShare> offloads_state = {};
  /// At stage 3: the slices of parameters in host memory.
  std::optional<HostShare> offloads_parameters = {};
  /// Bytes of this rank's slices of what is not trained, which go to host memory after it (ParameterShards): there has
  /// to be room for all together.
  int64_t frozen_bytes_on_host = 0;
  /// An update may have several micro-batches; asked for where the state is offloaded or a pass is rehearsed.
  bool accumulates = false;
};

/// What an update did, as 0-d tensors: a device need not be waited for before they are read. The next update overwrites
/// them.
struct StepResult {
  at::Tensor grad_norm;      ///< fp64: of the whole reduced gradient, unscaled, before clipping
  at::Tensor is_applied;     ///< bool: false where the norm was not finite
  at::Tensor learning_rate;  ///< fp64: the one that the update used
  double loss_scale = 1;     ///< the one that the update used
};

/// AdamW over the trainable parameters of a job: gradients summed in fp32 over micro-batches and ranks, fp32 master
/// weights for 16-bit parameters, clipping, and skipping of non-finite updates. Stage 0: all is held on every rank.
/// Stage 1: each rank holds and updates its slice of the state of all but LoRA's parameters (ShardPlan); it gets the
/// sums of its slices' gradients alone, and the updated parameters are gathered. Stage 2: the gradients of these
/// parameters are reduced in every micro-batch, block by block, and a block's whole gradient is there only while its
/// backward pass runs. Stage 3: the parameters themselves are there only while they are used (buffers()).
///
/// An offloaded state (HostOptimizer) is that of the rank's slices, one slice where there is one rank. Their gradients
/// leave as soon as they are reduced: bf16 weights' in bf16, others' in fp32. The host waits for the norm then, and the
/// update goes on beside what comes next: a slice is waited for before it is gathered. LoRA's parameters, which every
/// rank has whole and updates alike, stay on the device.
///
/// It moves the parameters' storage into flat buffers and owns their .grad from then on. After an update the version
/// counters of the parameters have grown.
class ShardedOptimizer final {
 public:
  /// Takes leaves that require gradients, each tensor once (a tied weight under one name), all on one device, fp32,
  /// bf16 or fp16. At stage 3 parameters may be without memory (nn::has_memory): they begin as zeros, and take_values()
  /// follows what is written into this rank's parts. `communicator` must outlive it. Faults (kDevice) where the host
  /// has no room for what is offloaded, before any rank takes memory there. Collective.
  ShardedOptimizer(std::vector<TrainableParameter> parameters, const OptimizerOptions& options,
                   comm::Communicator& communicator);
  ~ShardedOptimizer();
  ShardedOptimizer(const ShardedOptimizer&) = delete;
  ShardedOptimizer& operator=(const ShardedOptimizer&) = delete;

  /// Runs the backward pass of a micro-batch's loss, divided by the denominator of the whole update before, and adds
  /// the gradients up. In the last micro-batch they are summed over the ranks (collective). The passes of others can be
  /// recorded (device::Graph): what a replay adds is there as if the pass had run.
  void backward(const at::Tensor& loss, bool is_last_micro_batch);

  /// backward() of a pass that is not to count, with all the memory that one takes, but without talk between the ranks,
  /// of which one may fail. discard_gradients() has to follow.
  void rehearse_backward(const at::Tensor& loss);

  /// Has the current stream wait for the reductions that were started, whose memory is free then.
  void finish_reductions();

  /// Sums over the ranks after the last micro-batch, where no backward() was told that it is the last. Collective.
  void reduce() { reduce_rest(/*is_last_micro_batch=*/true); }

  /// Takes back what backward() has added since the last update, of passes that were not to count.
  void discard_gradients();

  /// Tells, from inside a backward pass, that those of these parameters begin to come (stage 2). Gradients that come
  /// without it are rounded to the parameters' type on their way.
  void gradients_begin(const std::vector<int64_t>& indices);

  /// Whether backward passes find every .grad at the same address each time, so that they can be recorded.
  bool has_stable_gradients() const;

  /// Tells, from inside a backward pass, that the gradients of these parameters (indices into the constructor's list)
  /// are final: in the last micro-batch (stage 2: in each) their reduction starts at once, beside the rest of the pass.
  /// The same calls in the same order on every rank. Parameters that are never named, such as a tied embedding, are
  /// reduced at the end.
  void gradients_final(const std::vector<int64_t>& indices);

  /// Masters, and what is offloaded, take what has been written into the parameters, or into this rank's parts of them,
  /// as at the beginning.
  void take_values();

  /// Of stage 3: the buffers of the trained parameters, by block, for who gathers them (ParameterShards).
  std::vector<BlockBuffer> buffers() const;

  /// Where gradients are kept between backward passes: this rank's sums, and whole ones that wait for the update.
  std::vector<at::Tensor> lasting_gradients() const;
  /// The same of the state that lies on the device.
  std::vector<at::Tensor> lasting_state() const;

  /// The index of a parameter in the constructor's list, or -1.
  int64_t index_of(const at::Tensor& parameter) const;

  /// Clips and applies the update, and clears the gradients. `learning_rates`: fp64 [n] on the parameters' device; the
  /// update takes the entry of the number of updates applied so far (the last one beyond the end). Where the norm of
  /// the gradients is not finite the update is skipped, on all ranks alike, and that number does not grow. But for
  /// fp16's loss scale and an offloaded state the host waits for nothing. `graph`: where given, the device's work is
  /// recorded there and replayed, unless ranks have to talk in it; always with the same `learning_rates`. Collective
  /// where the state is sharded.
  StepResult clip_and_step(const at::Tensor& learning_rates, device::Graph* graph = nullptr);

  /// Updates applied so far. Waits for the device.
  int64_t num_applied_updates() const;
  const optim::LossScaler* loss_scaler() const { return loss_scaler_ ? &*loss_scaler_ : nullptr; }

  /// All that a run needs to go on bit for bit, beside the parameters themselves: tensors in the parameters' order,
  /// where they lie. They may share memory with the optimizer until the next update. Where the state is sharded it is
  /// what this rank adds: its parts of what is sharded, and on rank 0 the rest too; nothing is copied that is not
  /// given.
  std::vector<NamedState> state() const;
  /// Whether ranks hold slices, one rank the only ones of what is offloaded.
  bool is_sharded() const { return flat_.plan().is_sharded(); }
  /// How many ranks have a part of the state: the first so many.
  int num_state_shards() const { return flat_.plan().is_sharded() ? communicator_.size() : 1; }
  /// Takes a saved state, the parts of all ranks together; they may have been other ranks than these. What is missing,
  /// unexpected or of another shape is one kCheckpoint error that lists all. Of tensors that are shared this rank's
  /// parts alone are read. Master weights are rounded into their parameters. Collective where the state is sharded.
  void restore(std::vector<StoredState> state);
  void restore(const std::vector<NamedState>& state);

 private:
  struct PendingReduction;
  // A kind of state that a parameter has, and the part that this rank owns, flat.
  struct StateKind {
    const char* suffix;
    at::Tensor part;
  };
  std::vector<StateKind> kinds_of(int64_t index) const;
  std::string faults_of_values(const SavedState& saved) const;

  void accumulate(const at::Tensor& loss);
  int64_t count_writes() const;
  void add_gradient(int64_t index);
  void drop_gradient(const ShardPlan::Bucket& bucket);
  void clear_gradients();
  void reduce_rest(bool is_last_micro_batch);
  bool is_reduced_now(const ShardPlan::Bucket& bucket) const;
  void start_reduction(int64_t first, int64_t last);
  void start_all_reduce(int64_t first, int64_t last);
  void start_reduce_scatter(const ShardPlan::Bucket& bucket);
  at::Tensor sum_of_squares();
  at::Tensor entry_of_update(const at::Tensor& table) const;
  void update(const at::Tensor& learning_rates);
  void gather_values();
  void update_loss_scale();

  static FlatParameters lay_out(std::vector<TrainableParameter> parameters, const OptimizerOptions& options,
                                comm::Communicator& communicator);
  void move_state_to_host();
  size_t host_range_of(const ShardPlan::Bucket& bucket) const { return host_ranges_[flat_.plan().index_of(bucket)]; }
  void start_update_on_host(const at::Tensor& gradient_factor, const at::Tensor& beta1);
  at::Tensor part_on_host(const at::Tensor& buffer, int64_t index) const;

  FlatParameters flat_;
  OptimizerOptions options_;
  comm::Communicator& communicator_;
  std::optional<optim::LossScaler> loss_scaler_;
  // 0-d on the parameters' device
  at::Tensor loss_scale_;                              ///< fp32
  at::Tensor num_applied_updates_;                     ///< int64
  at::Tensor grad_norm_, is_applied_, learning_rate_;  ///< of the last update, as in StepResult
  bool is_last_micro_batch_ = false, is_rehearsed_ = false;
  bool has_new_gradients_ = false;  ///< since the backward pass began
  std::vector<bool> is_reduced_;    ///< by parameter, in this update
  std::vector<bool> has_sums_;      ///< by bucket, of this update
  std::deque<PendingReduction> pending_;
  std::vector<size_t> host_ranges_;      ///< by bucket, of the sharded ones
  std::unique_ptr<HostOptimizer> host_;  ///< null: the device holds and updates all
};

}  // namespace dsft::zero
