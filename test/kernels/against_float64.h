// Operations on a GPU against the same in float64 on the CPU.
#pragma once

#include <torch/types.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "catch_amalgamated.hpp"
#include "support/on_gpu.h"

namespace dsft::test {

using Operation = std::function<at::Tensor(std::vector<at::Tensor>&)>;

/// Output and gradients of sum(f(inputs) * direction), as float64 on the CPU.
inline std::vector<at::Tensor> results_of(const Operation& f, const std::vector<at::Tensor>& inputs,
                                          at::ScalarType type, at::Device device, const at::Tensor& direction) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& input : inputs) leaves.push_back(input.to(device, type).detach().requires_grad_(true));
  const at::Tensor out = f(leaves);
  out.backward(direction.to(device, type));
  std::vector<at::Tensor> results = {out.detach().to(at::kCPU, at::kDouble)};
  for (const at::Tensor& leaf : leaves) results.push_back(leaf.grad().to(at::kCPU, at::kDouble));
  return results;
}

/// Values and gradients: in fp32 within rounding of float64; in bf16 no further from float64 than the operations of
/// `unfused` in bf16 are, but for one rounding of the result.
inline void check_against_float64(const char* name, const Operation& f, const Operation& unfused,
                                  std::vector<at::Tensor> inputs, double fp32_bound) {
  INFO(name);
  const at::Tensor direction = torch::randn(f(inputs).sizes());
  const auto exact = results_of(unfused, inputs, at::kDouble, at::kCPU, direction);
  const auto actual = results_of(f, inputs, at::kFloat, kGpu, direction);
  for (size_t i = 0; i < exact.size(); ++i) {
    INFO("result " << i);
    CHECK(largest(actual[i] - exact[i]) < fp32_bound * std::max(1.0, largest(exact[i])));
  }
  for (at::Tensor& input : inputs) input = input.to(at::kBFloat16).to(at::kFloat);
  const at::Tensor narrow = direction.to(at::kBFloat16).to(at::kFloat);
  const auto rounded_exact = results_of(unfused, inputs, at::kDouble, at::kCPU, narrow);
  const auto fused = results_of(f, inputs, at::kBFloat16, kGpu, narrow);
  const auto plain = results_of(unfused, inputs, at::kBFloat16, kGpu, narrow);
  for (size_t i = 0; i < exact.size(); ++i) {
    INFO("bf16 result " << i);
    const double rounding = largest(rounded_exact[i]) / 256;
    CHECK(largest(fused[i] - rounded_exact[i]) <= largest(plain[i] - rounded_exact[i]) + rounding);
  }
}

}  // namespace dsft::test
