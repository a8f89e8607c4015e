#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace dsft::nn {

/// Tensors of one type that lie one behind another in one storage, as one flat tensor; undefined where they do not.
at::Tensor flat_view(const std::vector<at::Tensor>& tensors);

}  // namespace dsft::nn
