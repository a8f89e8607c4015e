#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace dsft::estimate {

/// A GPU by name, as its maker's papers describe it.
struct NamedGpu {
  std::string_view name;
  int64_t memory_gib;     ///< what is sold as so many GB
  double bandwidth_gb_s;  ///< of its memory, 1e9 bytes/s
  double tflops;          ///< dense, 16-bit factors, fp32 sums
  std::string_view source;
};

/// The GPUs that estimates name, the smallest first.
std::span<const NamedGpu> named_gpus();

/// The GPU of this name. It must be one of them.
const NamedGpu& named_gpu(std::string_view name);

/// Bytes that tensors can take of so much memory: 5 % are left for gaps between them, and 1 GiB for CUDA's context,
/// its libraries and NCCL.
int64_t usable_bytes(int64_t memory_bytes);
int64_t usable_bytes(const NamedGpu& gpu);

}  // namespace dsft::estimate
