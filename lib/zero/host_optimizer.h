#pragma once

#include <ATen/core/Tensor.h>

#include <c10/core/Event.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "device/host_buffer.h"
#include "optim/adamw.h"
#include "zero/shard_plan.h"
#include "zero/worker_thread.h"

namespace dsft::zero {

/// Elements of a rank's own form whose gradients arrive, and whose weights leave, together: a bucket's slice.
struct HostRange {
  Range own;
  at::ScalarType weight_type = at::kFloat;    ///< of the weights on the device; bf16 and fp16 ones have masters here
  at::ScalarType gradient_type = at::kFloat;  ///< in which gradients travel
  bool has_weights_on_host = false;           ///< they are offloaded too: an update writes them where they lie
};

/// Elements of the own form that lie one behind another and have the same decay.
struct DecaySpan {
  Range own;
  bool has_weight_decay = true;
};

struct HostOptimizerOptions {
  optim::AdamWOptions adamw = {};
  device::HostPages pages = device::HostPages::kPinned;
  bool accumulates = false;          ///< an update has several micro-batches: their gradients add up here, in fp32
  int64_t piece_elements = 1 << 24;  ///< that are updated before they leave
};

/// AdamW over a rank's own elements in host memory, in a thread of its own with all cores (Ren et al., "ZeRO-Offload",
/// 2021). Gradients come in by ranges while the backward pass goes on, and their squares are summed as they come. An
/// update takes the ranges in their order; what of one is done leaves for the device while the next is updated:
///
///   take_gradients(range) ... for each range and micro-batch, from inside the backward pass
///   sum_of_squares()          waits for all of them; the caller knows the factor of clipping then
///   start_update(numbers)     or nothing: the update is skipped
///   wait_for(range) ...       before a range's weights are read on the device
///
/// For one thread at a time. The device's work is ordered with the current stream of that thread.
class HostOptimizer {
 public:
  /// `ranges` and `spans` cover the elements from 0 on, in order and without gaps. Whether the host has room for all of
  /// it, and for that of other ranks, is to be asked before (bytes_of()).
  HostOptimizer(std::vector<HostRange> ranges, std::vector<DecaySpan> spans, at::Device device,
                const HostOptimizerOptions& options);
  /// Leaves out what is not begun, and waits for the rest.
  ~HostOptimizer();
  HostOptimizer(const HostOptimizer&) = delete;
  HostOptimizer& operator=(const HostOptimizer&) = delete;

  /// Host memory that it takes.
  static int64_t bytes_of(const std::vector<HostRange>& ranges, bool accumulates);

  /// Makes the device's values, fp32 or 16-bit, the weights of a range. Waits for the device.
  void set_weights(size_t range, const at::Tensor& values);

  /// Starts the way of a micro-batch's gradients of a range, on the device, contiguous, fp32 or 16-bit, to the host;
  /// the first ones of an update replace what lies there. They may be given up at once, and written again after
  /// sum_of_squares().
  void take_gradients(size_t range, const at::Tensor& gradients, bool is_last_micro_batch);

  /// Of the gradients of all ranges, in fp64, once an update; waits until the last of each have arrived. The order of
  /// additions does not depend on when they came.
  double sum_of_squares();

  /// The next gradients are the first ones of an update, whatever came before.
  void discard_gradients();

  /// Updates all ranges, one after another; `weights`, the device's or those on the host, of the ranges' types and
  /// contiguous, get the new ones. `numbers.gradient_factor` is that of clipping and of the loss scale.
  void start_update(const optim::AdamWNumbers& numbers, std::vector<at::Tensor> weights);

  /// What is enqueued on the current stream from now on sees the new weights of this range; the host waits until they
  /// have been computed, not until they are there.
  void wait_for(size_t range);
  /// The same for all ranges.
  void wait_for_all();

  size_t num_ranges() const { return states_.size(); }
  // the state: fp32, own form, to be read or written between wait_for_all() and the next take_gradients()
  const at::Tensor& master() const { return master_; }
  const at::Tensor& exp_avg() const { return exp_avg_; }
  const at::Tensor& exp_avg_sq() const { return exp_avg_sq_; }

 private:
  // Which gradients of an update have come, or are on their way.
  enum class Progress { kNone, kSome, kAll };
  // What of a range is beside master and moments, and how far it is.
  struct State {
    HostRange range;
    at::Tensor arrived;                            // the gradients as they come
    at::Tensor sum;                                // of several micro-batches; undefined where there is one
    at::Tensor copy;                               // of the new weights in 16 bits; undefined where the device has fp32
    std::optional<c10::Event> arrival, departure;  // on a device that works by itself
    int64_t settled = 0, updated = 0;              // the worker's numbers of the last tasks
    Progress progress = Progress::kNone;
    double sum_of_squares = 0;
  };

  State& state_of(size_t range);
  void copy_to_host(State& state, const at::Tensor& gradients);
  void settle(State& state, bool is_first, bool is_last);
  void update(State& state, const optim::AdamWNumbers& numbers, at::Tensor& weights);
  void update_elements(const State& state, const optim::AdamWNumbers& numbers, Range own, const at::Tensor& copy);

  at::Device device_;
  HostOptimizerOptions options_;
  std::vector<DecaySpan> spans_;
  std::vector<State> states_;
  at::Tensor master_, exp_avg_, exp_avg_sq_;
  std::optional<c10::Stream> stream_;   // of copies; none: the host does not go on by itself
  std::optional<WorkerThread> worker_;  // from constructor to destructor
};

}  // namespace dsft::zero
