#pragma once

#include <torch/types.h>

namespace dsft::test {

inline const at::Device kGpu(at::kCUDA, 0);

/// The largest absolute value.
inline double largest(const at::Tensor& values) {
  return values.abs().max().item<double>();
}

}  // namespace dsft::test
