#include "device/moment.h"

#include <torch/types.h>

#include <chrono>
#include <thread>

#include "base/stopwatch.h"
#include "catch_amalgamated.hpp"
#include "device/device.h"

using namespace dsft;

TEST_CASE("On the CPU moments are as far apart as they were made", "[device]") {
  const device::Moment begin(at::kCPU);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const device::Moment end(at::kCPU);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const device::Moment later(at::kCPU);
  CHECK(end.seconds_since(begin) >= 0.02);
  CHECK(later.seconds_since(begin) == Catch::Approx(later.seconds_since(end) + end.seconds_since(begin)));
  CHECK(begin.seconds_since(end) == -end.seconds_since(begin));
}

TEST_CASE("On a GPU moments are as far apart as its work takes, and making them waits for nothing", "[device][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  const at::Device gpu(at::kCUDA, 0);
  const at::Tensor matrix = torch::ones({4096, 4096}, at::TensorOptions(at::kFloat).device(gpu));
  at::Tensor product = matrix.mm(matrix);
  device::synchronize(gpu);
  const Stopwatch watch;
  double enqueued = 0;
  const auto work = [&] {
    const device::WaitsForbidden forbidden;
    device::Moment begin(gpu);
    for (int i = 0; i < 50; ++i) torch::mm_out(product, matrix, matrix);
    device::Moment end(gpu);
    enqueued = watch.seconds();
    return std::pair(std::move(begin), std::move(end));
  };
  const auto [begin, end] = work();
  CHECK_THROWS(end.seconds_since(begin));  // the work goes on
  device::synchronize(gpu);
  const double whole = watch.seconds(), seconds = end.seconds_since(begin);
  CHECK(seconds > enqueued);
  CHECK(seconds > whole / 2);
  CHECK(seconds <= whole);
}
