#include "kernels/cuda_common.cuh"
#include "kernels/norm_rotate_cuda.h"

namespace dsft::kernels::cuda {
namespace {

constexpr int kBlock = 256;
constexpr int kWarps = kBlock / kWarp;
constexpr int kPartBlocks = 264;

// A warp holds one head: each lane kPairs neighbouring elements of the first half, and those of the second.
template <typename T, int kPairs>
struct Head {
  struct alignas(sizeof(T) * kPairs) Piece {
    T values[kPairs];
  };
  static constexpr int kHalf = kPairs * kWarp;
  float first[kPairs], second[kPairs];

  __device__ static int column() { return (threadIdx.x % kWarp) * kPairs; }
  __device__ void read(const T* head) {
    const Piece a = *reinterpret_cast<const Piece*>(head + column());
    const Piece b = *reinterpret_cast<const Piece*>(head + kHalf + column());
#pragma unroll
    for (int i = 0; i < kPairs; ++i) first[i] = to_float(a.values[i]), second[i] = to_float(b.values[i]);
  }
  __device__ void write(T* head) const {
    Piece a, b;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) a.values[i] = from_float<T>(first[i]), b.values[i] = from_float<T>(second[i]);
    *reinterpret_cast<Piece*>(head + column()) = a;
    *reinterpret_cast<Piece*>(head + kHalf + column()) = b;
  }
  __device__ float dot(const Head& other) const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) sum += first[i] * other.first[i] + second[i] * other.second[i];
    return warp_sum(sum);
  }
  __device__ Head times(const Head& other) const {
    Head out;
#pragma unroll
    for (int i = 0; i < kPairs; ++i)
      out.first[i] = first[i] * other.first[i], out.second[i] = second[i] * other.second[i];
    return out;
  }
  __device__ void rotate(const float* cos, const float* sin, float sign) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const float c = cos[column() + i], s = sin[column() + i] * sign, a = first[i], b = second[i];
      first[i] = a * c - b * s;
      second[i] = b * c + a * s;
    }
  }
};

template <typename T, int kPairs>
__device__ float inverse_rms_of(const Head<T, kPairs>& x, float eps) {
  return rsqrtf(x.dot(x) / (2 * Head<T, kPairs>::kHalf) + eps);
}

template <typename T, int kPairs>
__global__ void __launch_bounds__(kBlock) forward(const T* x, const T* weight, const float* cos, const float* sin,
                                                  float eps, T* y, int64_t count, int heads) {
  using H = Head<T, kPairs>;
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (row >= count) return;
  const int64_t token = row / heads;
  H head, factors;
  head.read(x + row * 2 * H::kHalf);
  factors.read(weight);
  const float scale = inverse_rms_of(head, eps);
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    head.first[i] *= scale * factors.first[i];
    head.second[i] *= scale * factors.second[i];
  }
  head.rotate(cos + token * H::kHalf, sin + token * H::kHalf, 1.0f);
  head.write(y + row * 2 * H::kHalf);
}

template <typename T, int kPairs, bool kNeedsWeight>
__global__ void __launch_bounds__(kBlock)
    backward(const T* gradient, const T* x, const T* weight, const float* cos, const float* sin, float eps,
             T* x_gradient, float* weight_parts, int64_t count, int heads) {
  using H = Head<T, kPairs>;
  H factors, weight_sums = {};
  factors.read(weight);
  const int64_t first_row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  for (int64_t row = first_row; row < count; row += int64_t{gridDim.x} * kWarps) {
    const int64_t token = row / heads;
    H in, dy;
    in.read(x + row * 2 * H::kHalf);
    dy.read(gradient + row * 2 * H::kHalf);
    dy.rotate(cos + token * H::kHalf, sin + token * H::kHalf, -1.0f);
    const float scale = inverse_rms_of(in, eps);
    const H weighted = dy.times(factors);
    const float correction = weighted.dot(in) * scale * scale / (2 * H::kHalf);
    H out;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      out.first[i] = scale * (weighted.first[i] - in.first[i] * correction);
      out.second[i] = scale * (weighted.second[i] - in.second[i] * correction);
      if constexpr (kNeedsWeight) {
        weight_sums.first[i] += dy.first[i] * in.first[i] * scale;
        weight_sums.second[i] += dy.second[i] * in.second[i] * scale;
      }
    }
    out.write(x_gradient + row * 2 * H::kHalf);
  }
  if constexpr (kNeedsWeight) {
    float* part = weight_parts + first_row * 2 * H::kHalf;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      part[H::column() + i] = weight_sums.first[i];
      part[H::kHalf + H::column() + i] = weight_sums.second[i];
    }
  }
}

template <typename Body>
void visit_pairs(int64_t half, Body body) {
  if (half == 32) return body(std::integral_constant<int, 1>{});
  if (half == 64) return body(std::integral_constant<int, 2>{});
  body(std::integral_constant<int, 4>{});
}

int64_t blocks_for(HeadRows rows) {
  return (rows.tokens * rows.heads + kWarps - 1) / kWarps;
}

}  // namespace

bool has_norm_rotate(int64_t head_dim) {
  return head_dim == 64 || head_dim == 128 || head_dim == 256;
}

void norm_rotate(const void* x, const void* weight, const float* cos, const float* sin, float eps, void* y,
                 HeadRows rows, FloatType type, Stream stream) {
  if (rows.tokens * rows.heads == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    visit_pairs(rows.half, [&](auto pairs) {
      forward<T, pairs()><<<blocks_for(rows), kBlock, 0, stream_of(stream)>>>(
          static_cast<const T*>(x), static_cast<const T*>(weight), cos, sin, eps, static_cast<T*>(y),
          rows.tokens * rows.heads, static_cast<int>(rows.heads));
    });
  });
  check_launch("norm_rotate");
}

int64_t norm_rotate_num_parts() {
  return int64_t{kPartBlocks} * kWarps;
}

void norm_rotate_backward(const void* gradient, const void* x, const void* weight, const float* cos, const float* sin,
                          float eps, void* x_gradient, float* weight_parts, HeadRows rows, FloatType type,
                          Stream stream) {
  if (rows.tokens * rows.heads == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    visit_pairs(rows.half, [&](auto pairs) {
      const auto launch = [&](auto needs_weight, int64_t blocks) {
        backward<T, pairs(), needs_weight()><<<blocks, kBlock, 0, stream_of(stream)>>>(
            static_cast<const T*>(gradient), static_cast<const T*>(x), static_cast<const T*>(weight), cos, sin, eps,
            static_cast<T*>(x_gradient), weight_parts, rows.tokens * rows.heads, static_cast<int>(rows.heads));
      };
      if (weight_parts != nullptr)
        launch(std::true_type{}, kPartBlocks);
      else
        launch(std::false_type{}, blocks_for(rows));
    });
  });
  check_launch("norm_rotate_backward");
}

}  // namespace dsft::kernels::cuda
