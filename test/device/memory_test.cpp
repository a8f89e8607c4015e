#include <torch/types.h>

#include <new>
#include <stdexcept>

#include "catch_amalgamated.hpp"
#include "device/device.h"

using namespace dsft;

namespace {

constexpr int64_t kMoreThanFits = int64_t{1} << 50;

bool says_out_of_memory(at::Device device, int64_t num_bytes) {
  try {
    torch::empty({num_bytes}, at::TensorOptions(at::kByte).device(device));
  } catch (const std::exception& error) {
    return device::is_out_of_memory(error);
  }
  return false;
}

}  // namespace

TEST_CASE("A lack of memory is told from other errors", "[device]") {
  CHECK(says_out_of_memory(at::kCPU, kMoreThanFits));
  CHECK_FALSE(says_out_of_memory(at::kCPU, -1));  // no size
  CHECK(device::is_out_of_memory(std::bad_alloc()));
  CHECK_FALSE(device::is_out_of_memory(std::runtime_error("out of memory")));
  device::forget_memory_use(at::kCPU);
}

TEST_CASE("A lack of a GPU's memory is one, and its peak can be counted anew", "[device][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  const at::Device gpu(at::kCUDA, 0);
  CHECK(says_out_of_memory(gpu, kMoreThanFits));
  constexpr int64_t kSize = int64_t{64} << 20;
  torch::empty({kSize}, at::TensorOptions(at::kByte).device(gpu));
  CHECK(device::peak_memory_bytes(gpu) >= kSize);
  device::forget_memory_use(gpu);
  CHECK(device::peak_memory_bytes(gpu) < kSize);
}
