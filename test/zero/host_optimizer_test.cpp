#include "zero/host_optimizer.h"

#include <torch/types.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "optim/gradient_norm.h"
#include "support/require_error.h"

using namespace dsft;
using zero::HostOptimizer;
using zero::Range;

namespace {

constexpr int64_t kSize = 5000;

// a range of fp32, one of 16 bits, an empty one and another; spans that begin and end inside of them
std::vector<zero::HostRange> ranges_of(at::ScalarType weight, at::ScalarType gradient) {
  return {{{0, 1000}, at::kFloat, at::kFloat},
          {{1000, 3016}, weight, gradient},
          {{3016, 3016}, weight, gradient},
          {{3016, kSize}, weight, gradient}};
}
const std::vector<zero::DecaySpan> kSpans{{{0, 500}, true}, {{500, 1100}, false}, {{1100, kSize}, true}};

zero::HostOptimizerOptions options_of(bool accumulates, const at::Device& device) {
  return {.adamw = {.weight_decay = 0.1},
          .pages = device.is_cuda() ? device::HostPages::kPinned : device::HostPages::kPageable,
          .accumulates = accumulates,
          .piece_elements = 700};
}

at::Tensor part(const at::Tensor& whole, Range own) {
  return whole.narrow(0, own.begin, own.size());
}

/// An offloaded optimizer with the device's weights, and the same by adamw_update on whole tensors.
struct Pair {
  at::Device device;
  std::vector<zero::HostRange> ranges;
  HostOptimizer offloaded;
  std::vector<at::Tensor> weights;
  at::Tensor expected = at::sin(at::arange(kSize, at::kFloat)), exp_avg = at::zeros({kSize}),
             exp_avg_sq = at::zeros({kSize});
  double sum_of_squares = 0;
  int64_t num_applied = 0;

  Pair(at::Device at, const std::vector<zero::HostRange>& of, bool accumulates)
      : device(at), ranges(of), offloaded(of, kSpans, at, options_of(accumulates, at)) {
    for (size_t i = 0; i < ranges.size(); ++i) {
      const at::TensorOptions options = at::TensorOptions(ranges[i].weight_type).device(device);
      weights.push_back(part(expected, ranges[i].own).clone().to(options));
      offloaded.set_weights(i, weights[i]);
      part(expected, ranges[i].own).copy_(weights[i]);
    }
  }

  /// The gradients of a micro-batch in the types in which they travel; ranges arrive from the last to the first.
  at::Tensor take(int64_t seed, bool is_last) {
    at::Tensor rounded = at::cos(at::arange(kSize, at::kFloat) * 0.37 * (seed + 1));
    for (size_t i = ranges.size(); i-- > 0;) {
      at::Tensor own = part(rounded, ranges[i].own);
      offloaded.take_gradients(i, own.to(device), is_last);
      own.copy_(own.to(ranges[i].gradient_type));
    }
    return rounded;
  }

  void update(const at::Tensor& gradient, const optim::AdamWNumbers& numbers) {
    sum_of_squares = offloaded.sum_of_squares();
    offloaded.start_update(numbers, weights);
    for (const zero::DecaySpan& span : kSpans) {
      optim::AdamWTensors tensors{part(expected, span.own), part(gradient, span.own), part(exp_avg, span.own),
                                  part(exp_avg_sq, span.own)};
      optim::adamw_update(tensors, {.weight_decay = span.has_weight_decay ? 0.1 : 0}, numbers);
    }
  }

  void check() {
    for (size_t i = 0; i < ranges.size(); ++i) {
      offloaded.wait_for(i);
      const Range own = ranges[i].own;
      const at::Tensor master = part(offloaded.master(), own);
      CHECK(at::allclose(master, part(expected, own), 1e-6, 1e-6));
      CHECK(at::allclose(part(offloaded.exp_avg(), own), part(exp_avg, own), 1e-6, 1e-6));
      CHECK(at::allclose(part(offloaded.exp_avg_sq(), own), part(exp_avg_sq, own), 1e-6, 1e-6));
      CHECK(at::equal(weights[i].cpu(), master.to(ranges[i].weight_type)));
    }
  }
};

void follow(at::Device device, bool accumulates) {
  const auto [weight, gradient] = GENERATE(std::pair(at::kFloat, at::kFloat), std::pair(at::kBFloat16, at::kBFloat16),
                                           std::pair(at::kBFloat16, at::kFloat), std::pair(at::kHalf, at::kHalf));
  Pair pair(device, ranges_of(weight, gradient), accumulates);
  for (int64_t step = 0; step < 4; ++step) {
    at::Tensor sum = pair.take(10 * step, /*is_last=*/!accumulates);
    if (accumulates) {
      sum += pair.take(10 * step + 1, false);
      sum += pair.take(10 * step + 2, true);
    }
    pair.update(sum, {.learning_rate = 0.01, .gradient_factor = 0.7, .num_applied_updates = step});
    CHECK(pair.sum_of_squares == Catch::Approx(optim::sum_of_squares(sum).item<double>()).epsilon(1e-12));
    if (step % 2 == 1) pair.check();  // others are overtaken by the next gradients
  }
}

}  // namespace

TEST_CASE("An offloaded optimizer updates as AdamW does on whole tensors, decay by decay and piece by piece",
          "[zero]") {
  follow(at::kCPU, /*accumulates=*/false);
}

TEST_CASE("Gradients of several micro-batches add up in fp32 on the host", "[zero]") {
  follow(at::kCPU, /*accumulates=*/true);
}

TEST_CASE("On a GPU an offloaded optimizer updates as on the CPU", "[zero][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  follow(device::choose_device(device::DeviceChoice::kCuda, 0), GENERATE(false, true));
}

TEST_CASE("On a GPU gradients leave and weights are waited for while the host goes on", "[zero][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  const at::Device gpu = device::choose_device(device::DeviceChoice::kCuda, 0);
  Pair pair(gpu, ranges_of(at::kBFloat16, at::kBFloat16), false);
  at::Tensor gradient = at::ones({kSize}, at::TensorOptions(at::kFloat).device(gpu));
  device::synchronize(gpu);
  const device::WaitsForbidden forbidden;
  for (size_t i = 0; i < pair.ranges.size(); ++i)
    pair.offloaded.take_gradients(i, part(gradient, pair.ranges[i].own), true);
  CHECK(pair.offloaded.sum_of_squares() == kSize);
  pair.offloaded.start_update({.learning_rate = 0.01}, pair.weights);
  pair.offloaded.wait_for_all();
}

TEST_CASE("Where no update is started nothing changes, and the next gradients replace those that were not used",
          "[zero]") {
  const bool accumulates = GENERATE(false, true);
  Pair pair(at::kCPU, ranges_of(at::kBFloat16, at::kBFloat16), accumulates);
  const at::Tensor before = pair.offloaded.master().clone();
  pair.offloaded.take_gradients(0, at::full({1000}, std::numeric_limits<float>::infinity()), true);
  for (size_t i = 1; i < pair.ranges.size(); ++i)
    pair.offloaded.take_gradients(i, at::ones({pair.ranges[i].own.size()}), true);
  CHECK_FALSE(std::isfinite(pair.offloaded.sum_of_squares()));
  CHECK(at::equal(pair.offloaded.master(), before));
  if (accumulates) {
    pair.take(1, false);
    pair.offloaded.discard_gradients();
  }
  pair.update(pair.take(2, true), {.learning_rate = 0.01});
  pair.check();
}

TEST_CASE("Gradients that are missing, come too late or do not fit are a fault of dsft", "[zero]") {
  Pair pair(at::kCPU, ranges_of(at::kBFloat16, at::kBFloat16), false);
  HostOptimizer& offloaded = pair.offloaded;
  const auto refused = [](const char* words, auto&& action) {
    test::require_error(ErrorKind::kInternal, {words}, action);
  };
  refused("keeps no sums", [&] { offloaded.take_gradients(0, at::ones({1000}), false); });
  refused("do not fit", [&] { offloaded.take_gradients(0, at::ones({999}), true); });
  offloaded.take_gradients(0, at::ones({1000}), true);
  refused("behind the last", [&] { offloaded.take_gradients(0, at::ones({1000}), true); });
  refused("range 1", [&] { offloaded.sum_of_squares(); });
  refused("range 9 of 4", [&] { offloaded.wait_for(9); });
  refused("do not fit", [&] { offloaded.start_update({}, std::vector<at::Tensor>(4, at::ones({1000}))); });
  const std::vector<zero::HostRange> with_gap{{{0, 10}}, {{11, 20}}};
  refused("gap at 10", [&] { HostOptimizer(with_gap, {{{0, 20}}}, at::kCPU, options_of(false, at::kCPU)); });
}

TEST_CASE("The memory of an offloaded optimizer is known before it is taken", "[zero]") {
  constexpr int64_t kElements = int64_t{1} << 31;
  const std::vector<zero::HostRange> ranges{{{0, kElements}, at::kBFloat16, at::kBFloat16}};
  CHECK(HostOptimizer::bytes_of(ranges, false) == 16 * kElements);
  CHECK(HostOptimizer::bytes_of(ranges, true) == 20 * kElements);
  CHECK(HostOptimizer::bytes_of({{{0, 10}, at::kFloat, at::kFloat}}, false) == 160);
}

TEST_CASE("An offloaded optimizer may end while an update goes on", "[zero]") {
  Pair pair(at::kCPU, ranges_of(at::kHalf, at::kHalf), false);
  pair.update(pair.take(1, true), {.learning_rate = 0.01});
}
