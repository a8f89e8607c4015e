#pragma once

#include <ATen/core/Tensor.h>

#include "base/error.h"

namespace dsft::kernels {

/// Calls body(T{}) with T = float, c10::BFloat16 or c10::Half, as the tensor's type says.
template <typename Body>
void visit_float_type(at::ScalarType type, Body body) {
  switch (type) {
    case at::kFloat:
      return body(float{});
    case at::kBFloat16:
      return body(c10::BFloat16{});
    case at::kHalf:
      return body(c10::Half{});
    default:
      DSFT_CHECK(false, "no kernel for ", c10::toString(type));
  }
}

}  // namespace dsft::kernels
