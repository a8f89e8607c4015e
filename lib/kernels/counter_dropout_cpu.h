#pragma once

#include <cstdint>

namespace dsft::kernels::cpu {

struct DropoutStream {
  uint32_t key0, key1;
  uint32_t threshold;  ///< a 16-bit draw below it drops the element
  float scale;
};

/// Of a run's seed and a module (kernels::counter_dropout).
DropoutStream dropout_stream(double p, uint64_t module, uint64_t seed);

/// Tokens [begin, end) of y = x * factor; x and y [T, size]; samples: sample_key of each token's epoch and sample.
template <typename T>
void dropout_tokens(const T* x, T* y, const int64_t* samples, const int64_t* positions, int64_t begin, int64_t end,
                    int64_t size, DropoutStream stream);

}  // namespace dsft::kernels::cpu
