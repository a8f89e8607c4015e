#pragma once

#include <torch/types.h>

#include <utility>
#include <vector>

#include "spec/model_spec.h"

namespace dsft::nn {

/// Angles of rotary embeddings: inverse frequencies with the checkpoint's scaling (formulas of transformers'
/// modeling_rope_utils).
class RotaryTable {
 public:
  /// For positions on `device`.
  RotaryTable(const spec::RopeSpec& rope, int64_t head_dim, int64_t max_position_embeddings, at::Device device);

  /// cos and sin [T, D/2] fp32 for positions [P, T] (the first row; more rows belong to multimodal rotary) of the
  /// documents that `boundaries` [S + 1] delimit. Dynamic scaling depends on each document's own length (its last
  /// position + 1), so that packing cannot change it; transformers takes the longest sequence that the model has seen
  /// so far.
  std::pair<at::Tensor, at::Tensor> angles(const at::Tensor& positions, const std::vector<int64_t>& boundaries) const;

 private:
  at::Tensor inverse_frequencies() const;
  at::Tensor dynamic_frequencies(const at::Tensor& positions, const std::vector<int64_t>& boundaries) const;

  spec::RopeSpec rope_;
  int64_t head_dim_;
  int64_t max_position_embeddings_;
  double attention_scaling_ = 1.0;
  at::Tensor frequencies_;  ///< [1, D/2] on the device; undefined where they depend on the document
};

}  // namespace dsft::nn
