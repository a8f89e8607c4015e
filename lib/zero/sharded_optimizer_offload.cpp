// What of a ShardedOptimizer lies in host memory.
#include <torch/types.h>

#include "base/error.h"
#include "device/host_memory.h"
#include "device/stream_order.h"
#include "zero/sharded_optimizer.h"

namespace dsft::zero {
namespace {

// fp16 ones would overflow at smaller loss scales than fp32 sums do
at::ScalarType type_on_the_way(at::ScalarType weight) {
  return weight == at::kBFloat16 ? at::kBFloat16 : at::kFloat;
}

// Those of sharded buckets, in their order.
std::vector<HostRange> host_ranges(const ShardPlan& plan, const std::vector<TrainableParameter>& parameters,
                                   bool offloads_parameters) {
  std::vector<HostRange> ranges;
  for (const ShardPlan::Bucket& bucket : plan.buckets()) {
    if (!bucket.is_sharded) continue;
    const int64_t begin = bucket.own_begin - plan.replicated_size();
    const at::ScalarType type = parameters[static_cast<size_t>(bucket.first)].parameter.scalar_type();
    ranges.push_back(
        {{begin, begin + plan.own_slice(bucket).size()}, type, type_on_the_way(type), offloads_parameters});
  }
  return ranges;
}

bool accumulates_on_host(const OptimizerOptions& options) {
  return options.accumulates && options.stage >= 2;  // at stage 1 the device adds up
}

Sharding sharding_of(const OptimizerOptions& options, comm::Communicator& communicator) {
  if (options.stage == 0) return {};
  Sharding sharding{.num_ranks = communicator.size(), .rank = communicator.rank()};
  sharding.has_gradients = options.stage >= 2;
  sharding.is_state_elsewhere = options.offloads_state.has_value();
  if (slices_parameters(options.stage, communicator.size(), options.offloads_parameters.has_value()))
    sharding.gathers_parameters = &communicator;
  if (options.offloads_parameters) sharding.slices.on_host = options.offloads_parameters->pages;
  return sharding;
}

// Before any rank of this host takes memory.
void require_room_on_host(const std::vector<HostRange>& ranges, const OptimizerOptions& options) {
  int64_t state = 0, values = options.frozen_bytes_on_host;
  if (options.offloads_state) state = HostOptimizer::bytes_of(ranges, accumulates_on_host(options));
  if (options.offloads_parameters)
    for (const HostRange& range : ranges)
      values += range.own.size() * static_cast<int64_t>(c10::elementSize(range.weight_type));
  if (state > 0)
    device::require_host_memory(
        values > 0 ? "the offloaded optimizer with the offloaded parameters" : "the offloaded optimizer",
        state + values, options.offloads_state->num_ranks, "set zero.offload_optimizer.device: none");
  else if (values > 0)
    device::require_host_memory("the offloaded parameters", values, options.offloads_parameters->num_ranks,
                                "set zero.offload_param.device: none");
}

}  // namespace

FlatParameters ShardedOptimizer::lay_out(std::vector<TrainableParameter> parameters, const OptimizerOptions& options,
                                         comm::Communicator& communicator) {
  DSFT_CHECK(options.stage >= 0 && options.stage <= 3, "zero stage ", options.stage);
  DSFT_CHECK(options.stage >= (options.offloads_parameters ? 3 : (options.offloads_state ? 1 : 0)),
             "nothing is offloaded at stage ", options.stage);
  Sharding sharding = sharding_of(options, communicator);
  if ((options.offloads_state || options.offloads_parameters) && !parameters.empty()) {
    sharding.slices.stream = device::side_stream(parameters.front().parameter.device());
    require_room_on_host(
        host_ranges(FlatParameters::plan_of(parameters, sharding), parameters, options.offloads_parameters.has_value()),
        options);
    communicator.barrier();
  }
  return FlatParameters(std::move(parameters), sharding);
}

void ShardedOptimizer::move_state_to_host() {
  if (!options_.offloads_state || !flat_.plan().is_sharded()) return;
  const ShardPlan& plan = flat_.plan();
  std::vector<DecaySpan> spans;
  for (const FlatParameters::Span& span : flat_.spans()) {
    if (flat_.holds_state(plan.bucket_of(span.first_parameter))) continue;
    const int64_t begin = span.own_begin - plan.replicated_size();
    spans.push_back({{begin, begin + span.size}, flat_[span.first_parameter].has_weight_decay});
  }
  // the ranks of this host have been counted before (require_room_on_host)
  host_ = std::make_unique<HostOptimizer>(
      host_ranges(plan, flat_.parameters(), options_.offloads_parameters.has_value()), spans, flat_.device(),
      HostOptimizerOptions{.adamw = options_.adamw,
                           .pages = options_.offloads_state->pages,
                           .accumulates = accumulates_on_host(options_)});
  size_t range = 0;
  for (const ShardPlan::Bucket& bucket : plan.buckets()) {
    host_ranges_.push_back(range);
    if (!bucket.is_sharded) continue;
    host_->set_weights(range, flat_.own_values(bucket));
    if (GatheredBuffer* buffer = flat_.gathered(bucket))
      buffer->wait_before_gather([this, range] { host_->wait_for(range); });
    ++range;
  }
}

void ShardedOptimizer::take_values() {
  flat_.take_values();
  for (const ShardPlan::Bucket& bucket : flat_.plan().buckets())
    if (!flat_.holds_state(bucket)) host_->set_weights(host_range_of(bucket), flat_.own_values(bucket));
}

// The host decides: it has the norm of what it holds anyway. Nothing on the device reads weights any more: the norm has
// been waited for.
void ShardedOptimizer::start_update_on_host(const at::Tensor& gradient_factor, const at::Tensor& beta1) {
  if (!is_applied_.item<bool>()) return;
  std::vector<at::Tensor> weights;
  for (const ShardPlan::Bucket& bucket : flat_.plan().buckets())
    if (bucket.is_sharded) weights.push_back(flat_.own_values(bucket));
  host_->start_update({.learning_rate = learning_rate_.item<double>(),
                       .gradient_factor = gradient_factor.item<double>(),
                       .num_applied_updates = num_applied_updates_.item<int64_t>(),
                       .beta1 = beta1.defined() ? std::optional(beta1.item<double>()) : std::nullopt},
                      std::move(weights));
}

// A parameter's part of what the host holds.
at::Tensor ShardedOptimizer::part_on_host(const at::Tensor& buffer, int64_t index) const {
  const Range part = flat_.plan().own_part(index);
  if (part.size() == 0) return buffer.narrow(0, 0, 0);
  const int64_t place = flat_.plan().own_place(flat_.plan().bucket_of(index), part.begin);
  return buffer.narrow(0, place - flat_.plan().replicated_size(), part.size());
}

}  // namespace dsft::zero
