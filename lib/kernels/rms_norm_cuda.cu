#include "kernels/dependent_launch.cuh"
#include "kernels/rms_norm_cuda.h"

namespace dsft::kernels::cuda {
namespace {

constexpr int kMostThreads = 256;
constexpr int kMostVectors = 8;           // a thread keeps so much of a row in registers
constexpr int kPartThreads = 264 * 1024;  // that add up the weight's gradient, for enough of memory under way

// Threads of a row: a warp for heads, whose block then holds several rows, or the whole block.
template <int kThreads>
struct Shape {
  static constexpr int kBlock = kThreads == kWarp ? 256 : kThreads;
  static constexpr int kRowsPerBlock = kBlock / kThreads;
  static constexpr int kPartBlocks = kPartThreads / kBlock;
  __device__ static int lane() { return threadIdx.x % kThreads; }
  __device__ static int64_t row() { return int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / kThreads; }
};

// x and what is added to it at one place of a row.
template <typename T>
__device__ Vector<T> added(const Vector<T>& x, const NormAddition& addition, int64_t place, int64_t part_size) {
  constexpr int kSize = Vector<T>::kSize;
  float sums[kSize];
#pragma unroll
  for (int i = 0; i < kSize; ++i) sums[i] = to_float(x.values[i]);
  if (addition.residual != nullptr) {
    const Vector<T> residual = load(static_cast<const T*>(addition.residual) + place);
#pragma unroll
    for (int i = 0; i < kSize; ++i) sums[i] += to_float(residual.values[i]);
  } else {
    float total[kSize] = {};
    for (int64_t part = 0; part < addition.num_parts; ++part)
#pragma unroll
      for (int i = 0; i < kSize; i += 4) {
        const Vector<float> values = load(addition.parts + part * part_size + place + i);
#pragma unroll
        for (int k = 0; k < 4; ++k) total[i + k] += values.values[k];
      }
#pragma unroll
    for (int i = 0; i < kSize; ++i) sums[i] += total[i];
  }
  Vector<T> out;
#pragma unroll
  for (int i = 0; i < kSize; ++i) out.values[i] = from_float<T>(sums[i]);
  return out;
}

template <typename T, int kThreads, int kVectors>
__global__ void __launch_bounds__(Shape<kThreads>::kBlock)
    forward(const T* x, NormAddition addition, const T* weight, T* y, float* inverse_rms, int64_t rows, int size,
            float eps) {
  constexpr int kSize = Vector<T>::kSize;
  const int lane = Shape<kThreads>::lane();
  const int64_t row = Shape<kThreads>::row();
  let_next_kernel_start();
  wait_for_earlier_kernels();
  if (row >= rows) return;  // whole groups: a block of one row, or a warp
  Vector<T> in[kVectors];
  float sum = 0;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int column = (v * kThreads + lane) * kSize;
    if (column >= size) continue;
    in[v] = load(x + row * size + column);
    if (addition.sum != nullptr) {
      in[v] = added(in[v], addition, row * size + column, rows * size);
      store(static_cast<T*>(addition.sum) + row * size + column, in[v]);
    }
#pragma unroll
    for (int i = 0; i < kSize; ++i) sum += to_float(in[v].values[i]) * to_float(in[v].values[i]);
  }
  const float scale = 1.0f / sqrtf(group_sum<kThreads>(sum) / static_cast<float>(size) + eps);
  if (lane == 0 && inverse_rms != nullptr) inverse_rms[row] = scale;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int column = (v * kThreads + lane) * kSize;
    if (column >= size) continue;
    const Vector<T> factors = load(weight + column);
    Vector<T> out;
#pragma unroll
    for (int i = 0; i < kSize; ++i)
      out.values[i] = from_float<T>(rounded<T>(to_float(in[v].values[i]) * scale) * to_float(factors.values[i]));
    store(y + row * size + column, out);
  }
}

// A block takes rows in turn, so that its sums for the weight's gradient stay in registers. The rows of warps are added
// up in their block.
template <typename T, int kThreads, int kVectors, bool kNeedsWeight>
__global__ void __launch_bounds__(Shape<kThreads>::kBlock)
    backward(const T* gradient, const T* sum_gradient, const T* x, const T* weight, const float* inverse_rms,
             T* x_gradient, float* weight_parts, int64_t rows, int size) {
  constexpr int kSize = Vector<T>::kSize;
  const int lane = Shape<kThreads>::lane();
  const int64_t step = int64_t{gridDim.x} * Shape<kThreads>::kRowsPerBlock;
  float weight_sums[kNeedsWeight ? kVectors * kSize : 1] = {};
  for (int64_t row = Shape<kThreads>::row(); row < rows; row += step) {
    Vector<T> in[kVectors], dy[kVectors];
    const float scale = inverse_rms[row];
    float dot = 0;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int column = (v * kThreads + lane) * kSize;
      if (column >= size) continue;
      in[v] = load(x + row * size + column);
      dy[v] = load(gradient + row * size + column);
      const Vector<T> factors = load(weight + column);
#pragma unroll
      for (int i = 0; i < kSize; ++i)
        dot += to_float(dy[v].values[i]) * to_float(factors.values[i]) * to_float(in[v].values[i]);
    }
    const float correction = group_sum<kThreads>(dot) * scale * scale / static_cast<float>(size);
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int column = (v * kThreads + lane) * kSize;
      if (column >= size) continue;
      const Vector<T> factors = load(weight + column);
      Vector<T> out, direct = {};
      if (sum_gradient != nullptr) direct = load(sum_gradient + row * size + column);
#pragma unroll
      for (int i = 0; i < kSize; ++i) {
        const float value = to_float(in[v].values[i]), g = to_float(dy[v].values[i]);
        const float through = sum_gradient != nullptr ? to_float(direct.values[i]) : 0.0f;
        out.values[i] = from_float<T>(through + scale * (g * to_float(factors.values[i]) - value * correction));
        if constexpr (kNeedsWeight) weight_sums[v * kSize + i] += g * rounded<T>(value * scale);
      }
      store(x_gradient + row * size + column, out);
    }
  }
  if constexpr (kNeedsWeight) {
    constexpr int kRows = Shape<kThreads>::kRowsPerBlock;
    __shared__ float sums[kRows > 1 ? kRows * kVectors * kThreads * kSize : 1];
    float* part = weight_parts + int64_t{blockIdx.x} * size;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int column = (v * kThreads + lane) * kSize;
      if (column >= size) continue;
#pragma unroll
      for (int i = 0; i < kSize; ++i) {
        const float sum = weight_sums[v * kSize + i];
        if constexpr (kRows > 1)
          sums[threadIdx.x / kThreads * size + column + i] = sum;
        else
          part[column + i] = sum;
      }
    }
    if constexpr (kRows > 1) {
      __syncthreads();
      for (int column = threadIdx.x; column < size; column += Shape<kThreads>::kBlock) {
        float sum = 0;
#pragma unroll
        for (int r = 0; r < kRows; ++r) sum += sums[r * size + column];
        part[column] = sum;
      }
    }
  }
}

// Calls body with the smallest number of registers that holds a row.
template <int kThreads, typename Body>
void visit_vectors(int64_t vectors_per_thread, Body body) {
  if (vectors_per_thread <= 1) return body(std::integral_constant<int, kThreads>{}, std::integral_constant<int, 1>{});
  if (vectors_per_thread <= 2) return body(std::integral_constant<int, kThreads>{}, std::integral_constant<int, 2>{});
  if (vectors_per_thread <= 4) return body(std::integral_constant<int, kThreads>{}, std::integral_constant<int, 4>{});
  body(std::integral_constant<int, kThreads>{}, std::integral_constant<int, kMostVectors>{});
}

template <typename Body>
void visit_shape(int64_t num_vectors, Body body) {
  const std::integral_constant<int, kWarp> warp;
  if (num_vectors <= kWarp) return body(warp, std::integral_constant<int, 1>{});
  if (num_vectors <= 2 * kWarp) return body(warp, std::integral_constant<int, 2>{});
  if (num_vectors <= 256) return visit_vectors<128>((num_vectors + 127) / 128, body);
  visit_vectors<kMostThreads>((num_vectors + kMostThreads - 1) / kMostThreads, body);
}

template <typename T>
int64_t vectors_of(int64_t size) {
  return size / Vector<T>::kSize;
}

}  // namespace

bool has_rms_norm(FloatType type, int64_t size) {
  const int64_t width = type == FloatType::kFloat ? 4 : 8;
  return size > 0 && size % width == 0 && size / width <= int64_t{kMostThreads} * kMostVectors;
}

void rms_norm(const void* x, const NormAddition& addition, const void* weight, void* y, float* inverse_rms,
              int64_t rows, int64_t size, float eps, FloatType type, Stream stream) {
  if (rows == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    visit_shape(vectors_of<T>(size), [&](auto threads, auto vectors) {
      using S = Shape<threads()>;
      const int64_t blocks = (rows + S::kRowsPerBlock - 1) / S::kRowsPerBlock;
      launch_early<forward<T, threads(), vectors()>>(
          {.grid = dim3(blocks), .threads = S::kBlock}, stream_of(stream), static_cast<const T*>(x), addition,
          static_cast<const T*>(weight), static_cast<T*>(y), inverse_rms, rows, static_cast<int>(size), eps);
    });
  });
  check_launch("rms_norm");
}

int64_t rms_norm_num_parts(FloatType type, int64_t size) {
  int64_t blocks = 0;
  visit(type, [&](auto element) {
    visit_shape(vectors_of<decltype(element)>(size),
                [&](auto threads, auto) { blocks = Shape<threads()>::kPartBlocks; });
  });
  return blocks;
}

void rms_norm_backward(const void* gradient, const void* sum_gradient, const void* x, const void* weight,
                       const float* inverse_rms, void* x_gradient, float* weight_parts, int64_t rows, int64_t size,
                       FloatType type, Stream stream) {
  if (rows == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    visit_shape(vectors_of<T>(size), [&](auto threads, auto vectors) {
      using S = Shape<threads()>;
      const int64_t blocks = (rows + S::kRowsPerBlock - 1) / S::kRowsPerBlock;
      const auto launch = [&](auto needs_weight, int64_t count) {
        backward<T, threads(), vectors(), needs_weight()><<<count, S::kBlock, 0, stream_of(stream)>>>(
            static_cast<const T*>(gradient), static_cast<const T*>(sum_gradient), static_cast<const T*>(x),
            static_cast<const T*>(weight), inverse_rms, static_cast<T*>(x_gradient), weight_parts, rows,
            static_cast<int>(size));
      };
      if (weight_parts != nullptr)
        launch(std::true_type{}, S::kPartBlocks);
      else
        launch(std::false_type{}, blocks);
    });
  });
  check_launch("rms_norm_backward");
}

}  // namespace dsft::kernels::cuda
