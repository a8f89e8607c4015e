#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "zero/gathered_buffer.h"
#include "zero/shard_plan.h"

namespace dsft::zero {

/// A parameter that is trained.
struct TrainableParameter {
  std::string name;       ///< the checkpoint's name
  at::Tensor parameter;   ///< a leaf that requires gradients
  bool has_weight_decay;  ///< false for biases and weights of norms
  bool is_lora = false;   ///< stays replicated at every stage
  int64_t block = 0;      ///< neighbours of one block are reduced and gathered as one
};

/// How the ranks share the parameters' optimizer state, and what of it lies elsewhere.
struct Sharding {
  int64_t num_ranks = 1, rank = 0;
  bool has_gradients = false;  ///< gradients of sharded parameters are there for a part of a backward pass alone
  comm::Communicator* gathers_parameters = nullptr;  ///< set: sharded parameters are there while they are used alone
  bool is_state_elsewhere = false;                   ///< of sharded parameters, with the sums of their gradients
  SlicePlace slices = {};                            ///< of what is gathered

  /// Whether anything is sharded; one rank then has the only slices.
  bool shards() const { return num_ranks > 1 || gathers_parameters != nullptr || is_state_elsewhere; }
};

/// Trainable parameters laid one behind the other in flat buffers, so that a run of them is updated or reduced by one
/// call. Whole buffers hold every element, a rank's own ones its slices (ShardPlan). Parameters are views of `values`,
/// or of `narrow_values` where they have 16 bits; these have their fp32 masters in `master`. Those of a bucket that is
/// gathered are views of its GatheredBuffer instead. The .grad of any is in
/// fp32: of what is whole on every rank a view of `gradient`, of what is sharded a view of a buffer of its bucket,
/// whose sums over the ranks go into this rank's slice of `gradient`. Where the state of what is sharded is elsewhere,
/// own buffers end with what is replicated. All 16-bit parameters have the same type.
class FlatParameters {
 public:
  explicit FlatParameters(std::vector<TrainableParameter> parameters, Sharding sharding = {});

  /// The plan that these parameters will have.
  static ShardPlan plan_of(const std::vector<TrainableParameter>& parameters, const Sharding& sharding);

  int64_t num_parameters() const { return static_cast<int64_t>(parameters_.size()); }
  const std::vector<TrainableParameter>& parameters() const { return parameters_; }
  const TrainableParameter& operator[](int64_t index) const { return parameters_[static_cast<size_t>(index)]; }
  at::Device device() const { return gradient.device(); }
  const ShardPlan& plan() const { return plan_; }
  bool has_master(int64_t index) const;
  /// Whether the state of a bucket's parameters is in the own buffers here.
  bool holds_state(const ShardPlan::Bucket& bucket) const { return !bucket.is_sharded || !is_state_elsewhere_; }

  /// The part of a whole buffer that belongs to a parameter, in its shape.
  at::Tensor view(const at::Tensor& whole, int64_t index) const;
  /// The part of an own buffer that belongs to a parameter, flat; perhaps empty.
  at::Tensor own_view(const at::Tensor& own, int64_t index) const;

  /// Elements that this rank owns, of consecutive parameters with the same weight decay and type, gaps included.
  struct Span {
    int64_t first_parameter;
    int64_t whole_begin, own_begin, size;
    at::Tensor of_whole(const at::Tensor& buffer) const { return buffer.narrow(0, whole_begin, size); }
    at::Tensor of_own(const at::Tensor& buffer) const { return buffer.narrow(0, own_begin, size); }
  };
  const std::vector<Span>& spans() const { return spans_; }

  /// What a bucket's parameters are views of; not of one that is gathered.
  const at::Tensor& values_of(const ShardPlan::Bucket& bucket) const {
    return has_master(bucket.first) ? narrow_values : values;
  }
  /// The buffer of a bucket that is gathered; null for others.
  GatheredBuffer* gathered(const ShardPlan::Bucket& bucket) const { return gathered_[plan_.index_of(bucket)].get(); }

  /// The values, in the parameters' type, that an update of a span writes.
  at::Tensor values_of(const Span& span) const;
  /// The values of a bucket that this rank owns, flat, in the parameters' type.
  at::Tensor own_values(const ShardPlan::Bucket& bucket) const;
  /// Those of a parameter; perhaps empty.
  at::Tensor own_values(int64_t index) const;

  /// Masters take the values that have been written into parameters, or into this rank's parts of them.
  void take_values();

  /// Where the gradient of a parameter adds up; undefined where its bucket's buffer is not there.
  at::Tensor gradient_of(int64_t index) const;
  /// The buffer of a sharded bucket; undefined where it is not there.
  const at::Tensor& whole_gradient(const ShardPlan::Bucket& bucket) const {
    return whole_gradients_[plan_.index_of(bucket)];
  }
  /// Makes a buffer for a bucket of is_transient(), where none is there, and offers its parameters their places in it
  /// (nn::offer_gradient). It holds anything until attach_gradients().
  void offer_gradients(const ShardPlan::Bucket& bucket);
  /// Makes the .grad of a bucket's parameters what gradient_of() says, with a buffer where there is none. What nobody
  /// has written becomes 0, and what another tensor in the place of one holds is added.
  void attach_gradients(const ShardPlan::Bucket& bucket);
  /// The same for all that have one for the whole run.
  void attach_gradients();
  /// Takes the buffer of a sharded bucket away, and every .grad with it.
  void detach_gradients(const ShardPlan::Bucket& bucket);
  /// Whether a bucket has a gradient buffer for a part of a backward pass alone.
  bool is_transient(const ShardPlan::Bucket& bucket) const { return bucket.is_sharded && shards_gradients_; }
  /// All gradients that are there become 0 but this rank's sums of what is sharded, which the first sums of the next
  /// update take the place of.
  void clear_gradients();

  // on the parameters' device; whole; undefined where no parameter is a view of them
  at::Tensor values;         ///< fp32
  at::Tensor narrow_values;  ///< bf16 or fp16
  // own, fp32
  at::Tensor gradient;
  at::Tensor master;  ///< undefined where all parameters whose state is here are fp32
  at::Tensor exp_avg, exp_avg_sq;

 private:
  void find_spans(bool gathers);
  void move_in(const Sharding& sharding);

  std::vector<TrainableParameter> parameters_;
  ShardPlan plan_;
  std::vector<Span> spans_;
  bool shards_gradients_, is_state_elsewhere_;
  std::vector<at::Tensor> whole_gradients_;                // by bucket
  std::vector<std::unique_ptr<GatheredBuffer>> gathered_;  // by bucket
};

}  // namespace dsft::zero
