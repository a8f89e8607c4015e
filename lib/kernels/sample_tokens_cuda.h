#pragma once

#include <cstdint>

#include "kernels/cuda_types.h"
#include "kernels/sample_tokens_cpu.h"

namespace dsft::kernels::cuda {

/// Rows of logits and what a draw needs beside them; device pointers, dense.
struct SampledRows {
  const void* logits;  ///< [rows, vocab_size]
  int32_t* seen;       ///< [rows, ceil(vocab_size / 32)] or null
  const int64_t *streams, *draws;
  int64_t* tokens;   ///< [rows], written
  float* log_probs;  ///< [rows], written, or null
  int64_t rows, vocab_size;
  uint32_t key0, key1;  ///< of CounterStream
};

/// sample_tokens on a GPU.
void sample_tokens(const SampledRows& rows, const cpu::SamplingRule& rule, FloatType type, Stream stream);

}  // namespace dsft::kernels::cuda
