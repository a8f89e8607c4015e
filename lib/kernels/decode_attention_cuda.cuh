// What the two kernels of a decoding step's attention share.
#pragma once

#include "kernels/cuda_common.cuh"
#include "kernels/decode_attention_cuda.h"

namespace dsft::kernels::cuda {

constexpr int kDecodeThreads = 128;
constexpr int kDecodePageTokens = 64;

/// The weight of a part of a softmax in the whole; a part without keys has none. Maxima are of scores in units of
/// log 2.
__device__ inline float share(float maximum, float largest) {
  return maximum == -INFINITY ? 0.0f : exp2f(maximum - largest);
}

/// A softmax over some of a head's keys, for one feature.
struct SoftmaxPart {
  float maximum = -INFINITY, sum = 0, value = 0;

  __device__ void add(float factor, float other_sum, float other_value) {
    sum += factor * other_sum;
    value += factor * other_value;
  }
};

/// Writes the part of this block (blockIdx.z); where it is the only one, the result.
template <typename T>
__device__ void write_part(const DecodeTensors& tensors, const cpu::DecodeAttentionShape& shape, int64_t head,
                           int head_dim, int feature, const SoftmaxPart& part) {
  if (tensors.num_splits == 1) {
    static_cast<T*>(tensors.out)[head * head_dim + feature] = from_float<T>(part.value / part.sum);
    return;
  }
  const int64_t heads = shape.num_sequences * shape.num_kv_heads * shape.group_size;
  float* to = tensors.parts + (blockIdx.z * heads + head) * (head_dim + 2);
  to[feature] = part.value;
  if (feature == 0) to[head_dim] = part.maximum, to[head_dim + 1] = part.sum;
}

inline dim3 decode_grid(const DecodeTensors& tensors, const cpu::DecodeAttentionShape& shape) {
  return {static_cast<unsigned>(shape.num_sequences), static_cast<unsigned>(shape.num_kv_heads),
          static_cast<unsigned>(tensors.num_splits)};
}

/// bf16 and fp16.
void decode_attention_by_mma(const DecodeTensors& tensors, const cpu::DecodeAttentionShape& shape, FloatType type,
                             cudaStream_t stream);

}  // namespace dsft::kernels::cuda
