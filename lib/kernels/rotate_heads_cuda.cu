#include "kernels/rotate_head.cuh"
#include "kernels/rotate_heads_cuda.h"

namespace dsft::kernels::cuda {
namespace {

constexpr int kBlock = 256;
constexpr int kWarps = kBlock / kWarp;
constexpr int kPartBlocks = 528;  // of queries, and of keys, where the weights' gradients are wanted

enum class Part { kQueries, kKeys, kValues };

// Where head `row` of the packed rows stands, and where its dense copy.
struct Place {
  int64_t token, packed, dense;
  Part part;
};

// Heads [first_head, first_head + num_heads) of each token are counted.
__device__ inline Place place_of(int64_t row, const PackedRows& rows, int64_t first_head, int64_t num_heads) {
  const int64_t token = row / num_heads, head = first_head + row % num_heads, size = 2 * rows.half;
  const Part part = head < rows.q_heads                   ? Part::kQueries
                    : head < rows.q_heads + rows.kv_heads ? Part::kKeys
                                                          : Part::kValues;
  const int64_t first_of_part = part == Part::kQueries ? 0 : rows.q_heads + (part == Part::kValues ? rows.kv_heads : 0);
  const int64_t heads_of_part = part == Part::kQueries ? rows.q_heads : rows.kv_heads;
  return {token, token * rows.token_stride + head * size, (token * heads_of_part + head - first_of_part) * size, part};
}

template <typename T, int kPairs>
__global__ void __launch_bounds__(kBlock)
    forward(const T* packed, const T* q_weight, const T* k_weight, const float* cos, const float* sin, float eps, T* q,
            T* k, PackedRows rows) {
  using H = Head<T, kPairs>;
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  const int64_t num_heads = rows.q_heads + rows.kv_heads;
  if (row >= rows.tokens * num_heads) return;
  const Place place = place_of(row, rows, 0, num_heads);
  H head;
  head.read(packed + place.packed);
  if (q_weight != nullptr) {
    H weight;
    weight.read(place.part == Part::kKeys ? k_weight : q_weight);
    head.normalise(weight, eps);
  }
  typename H::Angles angles;
  angles.read(cos + place.token * H::kHalf, sin + place.token * H::kHalf);
  head.rotate(angles, 1.0f);
  head.write((place.part == Part::kKeys ? k : q) + place.dense);
}

// Where the weights' gradients are wanted, blockIdx.y is the Part that a block takes.
template <typename T, int kPairs, bool kNeedsWeight>
__global__ void __launch_bounds__(kBlock)
    backward(const T* q_gradient, const T* k_gradient, const T* v_gradient, const T* packed, const T* q_weight,
             const T* k_weight, const float* cos, const float* sin, float eps, T* packed_gradient, float* weight_parts,
             PackedRows rows) {
  using H = Head<T, kPairs>;
  H weight_sums = {};
  int64_t first_head = 0, num_heads = rows.q_heads + 2 * rows.kv_heads;
  if constexpr (kNeedsWeight) {
    first_head = blockIdx.y == 0 ? 0 : rows.q_heads + (blockIdx.y - 1) * rows.kv_heads;
    num_heads = blockIdx.y == 0 ? rows.q_heads : rows.kv_heads;
  }
  const int64_t first_row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  for (int64_t row = first_row; row < rows.tokens * num_heads; row += int64_t{gridDim.x} * kWarps) {
    const Place place = place_of(row, rows, first_head, num_heads);
    H dy;
    if (place.part == Part::kValues) {
      dy.read(v_gradient + place.dense);
      dy.write(packed_gradient + place.packed);
      continue;
    }
    const bool is_key = place.part == Part::kKeys;
    dy.read((is_key ? k_gradient : q_gradient) + place.dense);
    typename H::Angles angles;
    angles.read(cos + place.token * H::kHalf, sin + place.token * H::kHalf);
    dy.rotate(angles, -1.0f);
    if (q_weight == nullptr) {
      dy.write(packed_gradient + place.packed);
      continue;
    }
    H in, factors;
    in.read(packed + place.packed);
    factors.read(is_key ? k_weight : q_weight);
    const float scale = in.inverse_rms(eps);
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
    out.write(packed_gradient + place.packed);
  }
  if constexpr (kNeedsWeight) {
    if (blockIdx.y == static_cast<unsigned>(Part::kValues)) return;
    __shared__ float sums[kWarps][2 * H::kHalf];
    const int warp = threadIdx.x / kWarp;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      sums[warp][H::column() + i] = weight_sums.first[i];
      sums[warp][H::kHalf + H::column() + i] = weight_sums.second[i];
    }
    __syncthreads();
    for (int feature = threadIdx.x; feature < 2 * H::kHalf; feature += kBlock) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) sum += sums[w][feature];
      weight_parts[(int64_t{blockIdx.y} * kPartBlocks + blockIdx.x) * 2 * H::kHalf + feature] = sum;
    }
  }
}

template <typename Body>
void visit_pairs(int64_t half, Body body) {
  if (half == 32) return body(std::integral_constant<int, 1>{});
  if (half == 64) return body(std::integral_constant<int, 2>{});
  body(std::integral_constant<int, 4>{});
}

int64_t blocks_for(const PackedRows& rows, int64_t num_heads) {
  return (rows.tokens * num_heads + kWarps - 1) / kWarps;
}

}  // namespace

bool has_rotate_heads(int64_t head_dim) {
  return head_dim == 64 || head_dim == 128 || head_dim == 256;
}

void rotate_heads(const void* packed, const HeadFactors& factors, void* q, void* k, const PackedRows& rows,
                  FloatType type, Stream stream) {
  if (rows.tokens == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    visit_pairs(rows.half, [&](auto pairs) {
      forward<T, pairs()><<<blocks_for(rows, rows.q_heads + rows.kv_heads), kBlock, 0, stream_of(stream)>>>(
          static_cast<const T*>(packed), static_cast<const T*>(factors.q_weight),
          static_cast<const T*>(factors.k_weight), factors.cos, factors.sin, factors.eps, static_cast<T*>(q),
          static_cast<T*>(k), rows);
    });
  });
  check_launch("rotate_heads");
}

int64_t rotate_heads_num_parts() {
  return kPartBlocks;
}

void rotate_heads_backward(const void* q_gradient, const void* k_gradient, const void* v_gradient, const void* packed,
                           const HeadFactors& factors, void* packed_gradient, float* weight_parts,
                           const PackedRows& rows, FloatType type, Stream stream) {
  if (rows.tokens == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    visit_pairs(rows.half, [&](auto pairs) {
      const auto launch = [&](auto needs_weight, dim3 blocks) {
        backward<T, pairs(), needs_weight()><<<blocks, kBlock, 0, stream_of(stream)>>>(
            static_cast<const T*>(q_gradient), static_cast<const T*>(k_gradient), static_cast<const T*>(v_gradient),
            static_cast<const T*>(packed), static_cast<const T*>(factors.q_weight),
            static_cast<const T*>(factors.k_weight), factors.cos, factors.sin, factors.eps,
            static_cast<T*>(packed_gradient), weight_parts, rows);
      };
      if (weight_parts != nullptr)
        launch(std::true_type{}, dim3(kPartBlocks, 3));
      else
        launch(std::false_type{}, dim3(static_cast<unsigned>(blocks_for(rows, rows.q_heads + 2 * rows.kv_heads))));
    });
  });
  check_launch("rotate_heads_backward");
}

}  // namespace dsft::kernels::cuda
