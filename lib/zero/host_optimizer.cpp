#include "zero/host_optimizer.h"

#include <torch/types.h>

#include <c10/core/StreamGuard.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "device/stream_order.h"
#include "optim/gradient_norm.h"

namespace dsft::zero {
namespace {

constexpr int64_t kStateBytes = 3 * sizeof(float);  // master and moments

int64_t width(at::ScalarType type) {
  return static_cast<int64_t>(c10::elementSize(type));
}

bool is_floating(at::ScalarType type) {
  return type == at::kFloat || type == at::kBFloat16 || type == at::kHalf;
}

// Of the new weights, on their way to the device.
bool has_copy(const HostRange& range) {
  return range.weight_type != at::kFloat && !range.has_weights_on_host;
}

template <typename Parts>
int64_t check_cover(const Parts& parts, const char* name) {
  int64_t end = 0;
  for (const auto& part : parts) {
    DSFT_CHECK(part.own.begin == end && part.own.size() >= 0, "the ", name,
               " of an offloaded optimizer leave a gap at ", end);
    end = part.own.end;
  }
  return end;
}

at::Tensor part_of(const at::Tensor& buffer, Range own) {
  return buffer.narrow(0, own.begin, own.size());
}

}  // namespace

int64_t HostOptimizer::bytes_of(const std::vector<HostRange>& ranges, bool accumulates) {
  int64_t bytes = 0;
  for (const HostRange& range : ranges) {
    int64_t each = kStateBytes + width(range.gradient_type);
    if (accumulates) each += width(at::kFloat);
    if (has_copy(range)) each += width(range.weight_type);
    bytes += each * range.own.size();
  }
  return bytes;
}

HostOptimizer::HostOptimizer(std::vector<HostRange> ranges, std::vector<DecaySpan> spans, at::Device device,
                             const HostOptimizerOptions& options)
    : device_(device), options_(options), spans_(std::move(spans)) {
  const int64_t size = check_cover(ranges, "ranges");
  DSFT_CHECK(check_cover(spans_, "spans") == size, "the spans of an offloaded optimizer end elsewhere than its ranges");
  DSFT_CHECK(options.piece_elements > 0, "pieces of ", options.piece_elements, " elements");
  const auto zeros = [&](int64_t numel, at::ScalarType type) {
    return device::HostBuffer(numel, type, options.pages).tensor();
  };
  master_ = zeros(size, at::kFloat);
  exp_avg_ = zeros(size, at::kFloat);
  exp_avg_sq_ = zeros(size, at::kFloat);
  for (const HostRange& range : ranges) {
    DSFT_CHECK(is_floating(range.weight_type) && is_floating(range.gradient_type), "an offloaded weight in ",
               c10::toString(range.weight_type), ", its gradient in ", c10::toString(range.gradient_type));
    State state;
    state.range = range;
    state.arrived = zeros(range.own.size(), range.gradient_type);
    if (options.accumulates) state.sum = zeros(range.own.size(), at::kFloat);
    if (has_copy(range)) state.copy = zeros(range.own.size(), range.weight_type);
    states_.push_back(std::move(state));
  }
  stream_ = device::side_stream(device);
  worker_.emplace();
}

HostOptimizer::~HostOptimizer() {
  worker_.reset();
  try {
    if (stream_) stream_->synchronize();
  } catch (const std::exception&) {
    // a device that takes no work any more says so at the next call
  }
}

HostOptimizer::State& HostOptimizer::state_of(size_t range) {
  DSFT_CHECK(range < states_.size(), "range ", range, " of ", states_.size());
  return states_[range];
}

void HostOptimizer::set_weights(size_t range, const at::Tensor& values) {
  const at::NoGradGuard no_grad;
  State& state = state_of(range);
  wait_for(range);
  part_of(master_, state.range.own).copy_(values.flatten());
}

void HostOptimizer::take_gradients(size_t range, const at::Tensor& gradients, bool is_last_micro_batch) {
  const at::NoGradGuard no_grad;
  State& state = state_of(range);
  DSFT_CHECK(gradients.numel() == state.range.own.size() && gradients.is_contiguous() &&
                 gradients.device() == device_ && is_floating(gradients.scalar_type()),
             "range ", range, " of an offloaded optimizer got gradients that do not fit");
  DSFT_CHECK(state.progress != Progress::kAll, "range ", range, " got gradients behind the last ones of the update");
  const bool is_first = state.progress == Progress::kNone;
  DSFT_CHECK(options_.accumulates || is_last_micro_batch,
             "gradients of several micro-batches come to an offloaded optimizer that keeps no sums");
  state.progress = is_last_micro_batch ? Progress::kAll : Progress::kSome;
  // those of the last micro-batch lie there until they have been added, those of the last update until it is done
  worker_->wait(std::max(state.settled, state.updated));
  copy_to_host(state, gradients);
  state.settled =
      worker_->add([this, &state, is_first, is_last_micro_batch] { settle(state, is_first, is_last_micro_batch); });
}

void HostOptimizer::copy_to_host(State& state, const at::Tensor& gradients) {
  if (!stream_) {
    state.arrived.copy_(gradients.view(-1));
    return;
  }
  device::put_behind(*stream_, device::current_stream_of(device_));
  gradients.record_stream(*stream_);
  const c10::StreamGuard on_stream(*stream_);
  // the device rounds, so that fewer bytes travel
  state.arrived.copy_(gradients.view(-1).to(state.range.gradient_type), /*non_blocking=*/true);
  device::record(state.arrival, *stream_);
}

void HostOptimizer::settle(State& state, bool is_first, bool is_last) {
  const at::NoGradGuard no_grad;
  if (state.arrival) state.arrival->synchronize();
  if (state.sum.defined()) {
    if (is_first)
      state.sum.copy_(state.arrived);
    else
      optim::add_on_host(state.sum, state.arrived);
  }
  if (is_last) state.sum_of_squares = optim::sum_of_squares_on_host(state.sum.defined() ? state.sum : state.arrived);
}

double HostOptimizer::sum_of_squares() {
  double total = 0;
  for (size_t range = 0; range < states_.size(); ++range) {
    const State& state = states_[range];
    DSFT_CHECK(state.progress == Progress::kAll, "range ", range,
               " of an offloaded optimizer has not got its last gradients");
    worker_->wait(state.settled);
    total += state.sum_of_squares;
  }
  discard_gradients();
  return total;
}

void HostOptimizer::discard_gradients() {
  for (State& state : states_) state.progress = Progress::kNone;
}

void HostOptimizer::start_update(const optim::AdamWNumbers& numbers, std::vector<at::Tensor> weights) {
  DSFT_CHECK(weights.size() == states_.size(), "weights of ", weights.size(), " ranges, not of ", states_.size());
  for (size_t range = 0; range < states_.size(); ++range) {
    const HostRange& expected = states_[range].range;
    DSFT_CHECK(weights[range].numel() == expected.own.size() && weights[range].is_contiguous() &&
                   weights[range].device() == (expected.has_weights_on_host ? at::Device(at::kCPU) : device_) &&
                   weights[range].scalar_type() == expected.weight_type,
               "the weights of range ", range, " do not fit those of an offloaded optimizer");
  }
  if (stream_) device::put_behind(*stream_, device::current_stream_of(device_));  // which may still read the weights
  for (size_t range = 0; range < states_.size(); ++range) {
    State& state = states_[range];
    state.updated = worker_->add(
        [this, &state, numbers, target = weights[range].view(-1)]() mutable { update(state, numbers, target); });
  }
}

void HostOptimizer::update(State& state, const optim::AdamWNumbers& numbers, at::Tensor& weights) {
  const at::NoGradGuard no_grad;
  if (state.departure) state.departure->synchronize();  // what has left may not be there yet
  const c10::OptionalStreamGuard on_stream(stream_);    // and its device, which this thread has not chosen
  const Range own = state.range.own;
  for (int64_t begin = own.begin; begin < own.end; begin += options_.piece_elements) {
    const Range piece{begin, std::min(own.end, begin + options_.piece_elements)};
    const Range place{piece.begin - own.begin, piece.end - own.begin};
    const at::Tensor target = part_of(weights, place),
                     copy = state.copy.defined() ? part_of(state.copy, place) : target;
    const bool is_narrow = state.range.weight_type != at::kFloat;
    update_elements(state, numbers, piece, is_narrow ? copy : at::Tensor());
    const at::Tensor result = is_narrow ? copy : part_of(master_, piece);
    if (!result.is_same(target)) target.copy_(result, /*non_blocking=*/true);
  }
  if (stream_ && !state.range.has_weights_on_host) device::record(state.departure, *stream_);
}

// `copy`: gets the new weights in 16 bits, where it is defined.
void HostOptimizer::update_elements(const State& state, const optim::AdamWNumbers& numbers, Range own,
                                    const at::Tensor& copy) {
  for (const DecaySpan& span : spans_) {
    const Range part{std::max(own.begin, span.own.begin), std::min(own.end, span.own.end)};
    if (part.size() <= 0) continue;
    const Range place{part.begin - state.range.own.begin, part.end - state.range.own.begin};
    optim::AdamWTensors tensors{.weight = part_of(master_, part),
                                .gradient = part_of(state.sum.defined() ? state.sum : state.arrived, place),
                                .exp_avg = part_of(exp_avg_, part),
                                .exp_avg_sq = part_of(exp_avg_sq_, part)};
    if (copy.defined()) tensors.copy = part_of(copy, {part.begin - own.begin, part.end - own.begin});
    optim::AdamWOptions adamw = options_.adamw;
    if (!span.has_weight_decay) adamw.weight_decay = 0;
    optim::adamw_update(tensors, adamw, numbers);
  }
}

void HostOptimizer::wait_for(size_t range) {
  const State& state = state_of(range);
  worker_->wait(state.updated);
  if (state.departure) state.departure->block(device::current_stream_of(device_));
}

void HostOptimizer::wait_for_all() {
  for (size_t range = 0; range < states_.size(); ++range) wait_for(range);
}

}  // namespace dsft::zero
