#pragma once

#include <vector>

#include "nn/linear.h"

namespace dsft::nn {

/// Linears of these widths over the same `in` features. Their weights lie one behind another in memory, and so do their
/// biases: as long as they do, multiply_side_by_side computes them as one.
std::vector<std::shared_ptr<Linear>> make_side_by_side(int64_t in, const std::vector<int64_t>& widths, bool has_bias,
                                                       at::TensorOptions options);

/// The results of several Linears for the same x [T, in], beside one another: [T, sum of out], as one node of the
/// graph. Each is x W^T + bias, plus scale * B(A(dropout(x))) where it has an enabled adapter. Keeps A(x), and x
/// where a weight or an A is trained: the dropped input is drawn again in the backward pass, and the low-rank products
/// are added by their GEMMs, without a pass over the result of their own. Where `values` are not read they are not
/// computed. The Linears must outlive the graph.
at::Tensor multiply_side_by_side(const at::Tensor& x, const std::vector<const Linear*>& linears,
                                 const ForwardContext& context, Values values = Values::kRead);

/// silu(gate(x)) * up(x), of Linears that were made side by side.
at::Tensor multiply_gated(const at::Tensor& x, const Linear& gate, const Linear& up, const ForwardContext& context);

}  // namespace dsft::nn
