#include <torch/types.h>

#include <new>
#include <stdexcept>
#include <string>

#include "base/error.h"
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
  CHECK(
      device::is_out_of_memory(Error(ErrorKind::kDevice, "the CUDA kernel adamw could not be started: out of memory")));
  CHECK_FALSE(device::is_out_of_memory(Error(ErrorKind::kData, "row 3 speaks of CUDA, out of memory")));
  device::forget_memory_use(at::kCPU);
  device::clear_error(at::kCPU);
}

TEST_CASE("What CUDA's libraries say of a lack of memory is told from their other errors", "[device]") {
  const std::string text = GENERATE(
      "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in CUDA's documentation.",
      "CUDA driver error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
      "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
      "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
      "No valid execution plans built.\nPlan at index 0: CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR: cudnnFinalize Failed "
      "cudnn_status: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
      "cudnnCreate failed: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED");
  INFO(text);
  CHECK(device::says_out_of_memory(text));
  CHECK(device::is_out_of_memory(c10::Error({__func__, __FILE__, __LINE__}, text)));
}

TEST_CASE("Other errors of CUDA's libraries are no lack of memory", "[device]") {
  const std::string text = GENERATE("CUDA error: an illegal memory access was encountered",
                                    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasGemmEx(handle)`",
                                    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasCreate(handle)`",
                                    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED", "");
  INFO(text);
  CHECK_FALSE(device::says_out_of_memory(text));
  CHECK_FALSE(device::is_out_of_memory(c10::Error({__func__, __FILE__, __LINE__}, text)));
}

TEST_CASE("A lack of a GPU's memory is one, and its peak can be counted anew", "[device][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  const at::Device gpu(at::kCUDA, 0);
  CHECK(says_out_of_memory(gpu, kMoreThanFits));
  constexpr int64_t kSize = int64_t{512} << 20;  // more than the workspaces of cuBLAS that stay
  torch::empty({kSize}, at::TensorOptions(at::kByte).device(gpu));
  CHECK(device::peak_memory_bytes(gpu) >= kSize);
  device::forget_memory_use(gpu);
  CHECK(device::peak_memory_bytes(gpu) < kSize);
}
