#include "device/graph.h"

#include <torch/types.h>

#include "catch_amalgamated.hpp"
#include "device/device.h"

using namespace dsft;

namespace {

// One step of a toy: `state` grows by the weights' share of it; counts how often it was enqueued.
struct Toy {
  explicit Toy(at::Device device)
      : weight(torch::eye(64, at::TensorOptions(device)) * 0.5),
        state(torch::ones({8, 64}, at::TensorOptions(device))),
        group(device),
        graph(group) {}

  void step() {
    graph.run([this] {
      ++num_calls;
      const at::NoGradGuard no_grad;
      state.add_(at::mm(state, weight));
    });
  }
  double value() const { return state[3][7].item<double>(); }

  at::Tensor weight, state;
  device::GraphGroup group;
  device::Graph graph;
  int64_t num_calls = 0;
};

}  // namespace

TEST_CASE("Without graphs the work is called at every run", "[device]") {
  Toy toy(at::kCPU);
  for (int64_t step = 0; step < 4; ++step) toy.step();
  CHECK(toy.num_calls == 4);
  CHECK(toy.value() == 1.5 * 1.5 * 1.5 * 1.5);
}

TEST_CASE("A graph is recorded once and does its work at every run", "[device][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  Toy toy(at::Device(at::kCUDA, 0));
  double expected = 1;
  for (int64_t step = 0; step < 5; ++step) {
    toy.step();
    CHECK(toy.value() == (expected *= 1.5));
  }
  CHECK(toy.num_calls == 2);  // as it is, then recorded
}

TEST_CASE("What breaks a recording is thrown, and the device goes on", "[device][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  Toy toy(at::Device(at::kCUDA, 0));
  device::Graph graph(toy.group);
  const auto synchronises = [&] { (void)toy.state.sum().item<double>(); };
  graph.run(synchronises);
  CHECK_THROWS(graph.run(synchronises));
  toy.step();
  toy.step();
  CHECK(toy.value() == 1.5 * 1.5);
}
