#pragma once

#include <cstdint>

#include "kernels/cuda_types.h"
#include "kernels/tempered_softmax.h"

namespace dsft::kernels::cuda {

/// token_log_probs_rows for logits [rows, vocab_size]; overwrites them by the gradient where
/// `makes_gradient`, times scales [rows] (null: 1).
void token_log_probs_rows(void* logits, const int64_t* targets, float* log_probs, bool* is_argmax, bool makes_gradient,
                          const float* scales, const TemperedSoftmax& tempered, int64_t rows, int64_t vocab_size,
                          FloatType type, Stream stream);

}  // namespace dsft::kernels::cuda
