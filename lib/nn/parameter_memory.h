#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

namespace dsft::nn {

/// Whether a tensor's memory is there. Parameters that are sharded, or not loaded yet, have none: they keep their
/// sizes, types and places in their storage, and must not be read.
bool has_memory(const at::Tensor& tensor);

/// Gives the memory of a tensor's storage back.
void release_memory(const at::Tensor& tensor);
/// That of all parameters of a module.
void release_memory(const torch::nn::Module& module);

}  // namespace dsft::nn
