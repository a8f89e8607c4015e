#pragma once

#include <cstdint>

#include "kernels/tempered_softmax.h"

namespace dsft::kernels::cpu {

/// Rows [begin, end) of token_log_probs_rows; scales null: 1.
template <typename T>
void token_log_probs_rows(T* logits, const int64_t* targets, float* log_probs, bool* is_argmax, bool makes_gradient,
                          const float* scales, const TemperedSoftmax& tempered, int64_t begin, int64_t end,
                          int64_t vocab_size);

}  // namespace dsft::kernels::cpu
