#include "estimate/gpus.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace dsft::estimate {
namespace {

constexpr std::string_view kAmpereGeForce = "NVIDIA Ampere GA102 GPU architecture whitepaper, appendix";
constexpr std::string_view kAdaGeForce = "NVIDIA Ada GPU architecture whitepaper, appendix";
constexpr std::string_view kA100 = "NVIDIA A100 Tensor Core GPU datasheet";

// GeForce cards halve the rate of fp32 sums: their tflops are those, not the larger figure for fp16 sums.
constexpr std::array<NamedGpu, 9> kGpus = {{
    {"RTX 3070", 8, 448, 40.6, kAmpereGeForce},
    {"RTX 4070", 12, 504, 58.3, "NVIDIA GeForce RTX 4070 product page; 184 tensor cores at 2475 MHz"},
    {"RTX 3090", 24, 936, 71.0, kAmpereGeForce},
    {"RTX 4090", 24, 1008, 165.2, kAdaGeForce},
    {"A100 40GB", 40, 1555, 312, kA100},
    {"L40S", 48, 864, 362, "NVIDIA L40S datasheet (half of the figure with sparsity)"},
    {"A100 80GB", 80, 2039, 312, kA100},
    {"H100", 80, 3350, 989, "NVIDIA H100 Tensor Core GPU datasheet, SXM (half of the figure with sparsity)"},
    {"H200", 141, 4800, 989, "NVIDIA H200 Tensor Core GPU datasheet, SXM (half of the figure with sparsity)"},
}};

}  // namespace

std::span<const NamedGpu> named_gpus() {
  return kGpus;
}

const NamedGpu& named_gpu(std::string_view name) {
  const auto found = std::find_if(kGpus.begin(), kGpus.end(), [&](const NamedGpu& gpu) { return gpu.name == name; });
  DSFT_CHECK(found != kGpus.end(), "no GPU is named ", name);
  return *found;
}

int64_t usable_bytes(int64_t memory_bytes) {
  return std::max<int64_t>(0, memory_bytes / 20 * 19 - (int64_t{1} << 30));
}

int64_t usable_bytes(const NamedGpu& gpu) {
  return usable_bytes(gpu.memory_gib << 30);
}

}  // namespace dsft::estimate
