#pragma once

#include <torch/torch.h>

#include <utility>

#include "spec/model_spec.h"

namespace dsft::nn {

/// Angles of rotary embeddings: inverse frequencies with the checkpoint's scaling (formulas of transformers' modeling_rope_utils).
class RotaryTable {
 public:
  RotaryTable(const spec::RopeSpec& rope, int64_t head_dim, int64_t max_position_embeddings);

  /// cos and sin [T, D/2] fp32 for positions [P, T] (the first row; more rows belong to multimodal rotary). Dynamic scaling depends on the longest
  /// sequence seen: `longest` is the largest position + 1 of the batch.
  std::pair<at::Tensor, at::Tensor> angles(const at::Tensor& positions, int64_t longest) const;

 private:
  at::Tensor inverse_frequencies(int64_t longest) const;

  spec::RopeSpec rope_;
  int64_t head_dim_;
  int64_t max_position_embeddings_;
  double attention_scaling_ = 1.0;
};

}  // namespace dsft::nn
