#pragma once

#include <cstdint>

namespace dsft::kernels::cpu {

/// Elements [begin, end) of silu(gate) * up.
template <typename T>
void swiglu_elements(const T* gate, const T* up, T* y, int64_t begin, int64_t end);

/// Elements [begin, end) of both gradients, which may stand in the places of gate and up.
template <typename T>
void swiglu_backward_elements(const T* gradient, const T* gate, const T* up, T* gate_gradient, T* up_gradient,
                              int64_t begin, int64_t end);

}  // namespace dsft::kernels::cpu
