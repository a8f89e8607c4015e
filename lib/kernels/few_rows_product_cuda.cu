#include <cooperative_groups.h>

#include <algorithm>
#include <atomic>

#include "kernels/dependent_launch.cuh"
#include "kernels/few_rows_product_cuda.h"
#include "kernels/swiglu.cuh"
#include "kernels/tensor_core.cuh"

namespace dsft::kernels::cuda {
namespace {

namespace groups = cooperative_groups;

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kMostRows = 16;
constexpr int64_t kMostWeightBytes = 64 << 20;  // more of them keep the GPU's memory busy in any kernel
constexpr int kStep = 32;                       // features of a step
[[maybe_unused]] constexpr int kDepth = 8;      // steps whose weights are under way
constexpr int kMostSlices = 8;                  // a cluster's portable size
constexpr int64_t kMostSharedBytes = 96 << 10;  // of a block: 12.x has no more, and 9.0 has room for two of them

/// Results' columns of a block.
constexpr int block_columns(int tiles) {
  return kWarps * 16 * tiles;
}

// Elements between the rows of x in shared memory: 16-byte reads of eight lanes, two rows of 64 bytes, meet no bank
// twice.
[[maybe_unused]] __host__ __device__ inline int input_stride(int features) {
  return features % 64 == 0 ? features + 32 : features;
}
__host__ __device__ constexpr int sums_stride(int tiles) {
  return block_columns(tiles) + 4;
}

[[maybe_unused]] __device__ inline void copy_16_bytes(void* to_shared, const void* from, bool is_there) {
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to_shared))),
      "l"(from), "r"(is_there ? 16 : 0));
}
[[maybe_unused]] __device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

// A block's warps have 16 kTiles rows of the weights each, and one slice of the features; the blocks of a cluster have
// the slices, and each of them adds up a share of the results. The order in which a product sums over features is
// free, so each lane takes eight neighbouring ones at a time. The weights are asked for before the kernels before this
// one are complete.
template <typename T, int kRows, int kTiles, bool kIsGated>
__global__ void __launch_bounds__(kThreads, 2) multiply(FewRowsProduct product) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(16) unsigned char shared[];
  constexpr int kColumns = block_columns(kTiles), kHalf = kColumns / 2, kSumsStride = sums_stride(kTiles);
  const auto cluster = groups::this_cluster();
  const int num_slices = static_cast<int>(gridDim.y), slice = static_cast<int>(blockIdx.y);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, g = lane / 4, t = lane % 4;
  const int rows = static_cast<int>(product.rows), columns = static_cast<int>(product.columns);
  const int64_t in = product.in;
  const int all_steps = static_cast<int>(in) / kStep;
  const int first_step = all_steps * slice / num_slices, steps = all_steps * (slice + 1) / num_slices - first_step;

  const T* weights[2 * kTiles];
#pragma unroll
  for (int i = 0; i < 2 * kTiles; ++i) {
    const int local = (warp * kTiles + i / 2) * 16 + i % 2 * 8 + g;
    int row;
    if constexpr (kIsGated)
      row = min(static_cast<int>(blockIdx.x) * kHalf + local % kHalf, columns - 1) + (local < kHalf ? 0 : columns);
    else
      row = min(static_cast<int>(blockIdx.x) * kColumns + local, columns - 1);
    weights[i] = static_cast<const T*>(product.weight) + row * in + first_step * kStep + 8 * t;
  }
  Words ahead[kDepth][2 * kTiles];
#pragma unroll
  for (int d = 0; d < kDepth; ++d)
    if (d < steps)
#pragma unroll
      for (int i = 0; i < 2 * kTiles; ++i) ahead[d][i] = load_constant_words(weights[i] + d * kStep);
  let_next_kernel_start();
  wait_for_earlier_kernels();

  T* const x = reinterpret_cast<T*>(shared);
  const int features = steps * kStep, stride = input_stride(features);
  for (int row = warp; row < kRows; row += kWarps)
    for (int column = 8 * lane; column < features; column += 8 * kWarp)
      copy_16_bytes(x + row * stride + column,
                    static_cast<const T*>(product.x) + min(row, rows - 1) * in + first_step * kStep + column,
                    row < rows);
  wait_for_copies();
  __syncthreads();

  float sums[kTiles][kRows / 8][4] = {};
  for (int base = 0; base < steps; base += kDepth) {
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      const int step = base + d;
      if (step >= steps) break;
      Words in_words[kRows / 8];
#pragma unroll
      for (int r = 0; r < kRows / 8; ++r) in_words[r] = load_words(x + (8 * r + g) * stride + step * kStep + 8 * t);
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          const uint32_t(&upper)[4] = ahead[d][2 * tile].words, (&lower)[4] = ahead[d][2 * tile + 1].words;
          const uint32_t a[4] = {upper[2 * half], lower[2 * half], upper[2 * half + 1], lower[2 * half + 1]};
#pragma unroll
          for (int r = 0; r < kRows / 8; ++r)
            multiply_add(sums[tile][r], a, in_words[r].words[2 * half], in_words[r].words[2 * half + 1], T{});
        }
      if (step + kDepth < steps)
#pragma unroll
        for (int i = 0; i < 2 * kTiles; ++i) ahead[d][i] = load_constant_words(weights[i] + (step + kDepth) * kStep);
    }
  }
  __syncthreads();  // x has been read: the sums [kRows, kColumns] take its place
  float* const own_sums = reinterpret_cast<float*>(shared);
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int r = 0; r < kRows / 8; ++r)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        own_sums[(8 * r + 2 * t + i % 2) * kSumsStride + (warp * kTiles + tile) * 16 + i / 2 * 8 + g] =
            sums[tile][r][i];
  if (num_slices > 1)
    cluster.sync();
  else
    __syncthreads();

  // four neighbouring results of a row at a time
  constexpr int kResults = kIsGated ? kHalf : kColumns, kPieces = kRows * kResults / 4;
  const auto add_up = [&](int row, int column) {
    const float* from = own_sums + row * kSumsStride + column;
    float4 parts[kMostSlices], total = {};
#pragma unroll
    for (int s = 0; s < kMostSlices; ++s)
      if (s < num_slices)
        parts[s] = *reinterpret_cast<const float4*>(num_slices > 1 ? cluster.map_shared_rank(from, s) : from);
#pragma unroll
    for (int s = 0; s < kMostSlices; ++s)
      if (s < num_slices) total.x += parts[s].x, total.y += parts[s].y, total.z += parts[s].z, total.w += parts[s].w;
    return total;
  };
  using Four = Piece<T, 4>;
  const auto narrow = [](const float4& wide) {
    return Four{{from_float<T>(wide.x), from_float<T>(wide.y), from_float<T>(wide.z), from_float<T>(wide.w)}};
  };
  const int per_slice = (kPieces + num_slices - 1) / num_slices, last = min(kPieces, (slice + 1) * per_slice);
  for (int piece = slice * per_slice + threadIdx.x; piece < last; piece += kThreads) {
    const int row = piece / (kResults / 4), local = piece % (kResults / 4) * 4;
    const int column = static_cast<int>(blockIdx.x) * kResults + local;
    if (row >= rows || column >= columns) continue;
    float4 total = add_up(row, local);
    Four out;
    if constexpr (kIsGated) {
      const Four gate = narrow(total), up = narrow(add_up(row, kHalf + local));
#pragma unroll
      for (int i = 0; i < 4; ++i) out.values[i] = swiglu_of(gate.values[i], up.values[i]);
    } else {
      if (product.bias != nullptr) {
        const Four bias = *reinterpret_cast<const Four*>(static_cast<const T*>(product.bias) + column);
        total.x += to_float(bias.values[0]), total.y += to_float(bias.values[1]);
        total.z += to_float(bias.values[2]), total.w += to_float(bias.values[3]);
      }
      out = narrow(total);
    }
    *reinterpret_cast<Four*>(static_cast<T*>(product.y) + int64_t{row} * columns + column) = out;
  }
  if (num_slices > 1) cluster.sync();  // the others have read this block's sums
#endif
}

int64_t weight_rows(const FewRowsProduct& product) {
  return product.is_gated ? 2 * product.columns : product.columns;
}

struct Plan {
  int tiles;   // of 16 rows of the weights, a warp's
  int slices;  // of the features
  int blocks;  // of each slice
};

// About one block for each multiprocessor.
Plan plan_of(const FewRowsProduct& product) {
  const int64_t rows = weight_rows(product);
  const int64_t wanted = device_attribute(cudaDevAttrMultiProcessorCount) * 9 / 10;
  Plan plan{.tiles = 2, .slices = 1, .blocks = 0};
  if (rows * kMostSlices < wanted * block_columns(2)) plan.tiles = 1;
  plan.blocks = static_cast<int>((rows + block_columns(plan.tiles) - 1) / block_columns(plan.tiles));
  while (plan.slices < kMostSlices && plan.slices * plan.blocks < wanted) plan.slices *= 2;
  return plan;
}

int rows_of_kernel(int64_t rows) {
  return rows <= 8 ? 8 : kMostRows;
}

// Of x's part in a block.
int64_t input_bytes(const FewRowsProduct& product, const Plan& plan) {
  const int64_t steps = (product.in / kStep + plan.slices - 1) / plan.slices;
  return int64_t{rows_of_kernel(product.rows)} * 2 * (steps * kStep + 32);
}

template <typename T, int kRows, int kTiles, bool kIsGated>
void launch(const FewRowsProduct& product, const Plan& plan, cudaStream_t stream) {
  constexpr int64_t kSumsBytes = int64_t{4} * kRows * sums_stride(kTiles);
  static_assert(kSumsBytes <= kMostSharedBytes);
  constexpr auto kKernel = multiply<T, kRows, kTiles, kIsGated>;
  static std::atomic<bool> is_allowed = false;
  if (!is_allowed) {
    const cudaError_t error =
        cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kMostSharedBytes));
    if (error != cudaSuccess)
      fail(ErrorKind::kDevice, "shared memory for few_rows_product: ", cudaGetErrorString(error));
    is_allowed = true;
  }
  const auto slices = static_cast<unsigned>(plan.slices);
  launch_early<kKernel>({.grid = {static_cast<unsigned>(plan.blocks), slices},
                         .threads = kThreads,
                         .shared_bytes = static_cast<size_t>(std::max(input_bytes(product, plan), kSumsBytes)),
                         .cluster_height = slices},
                        stream, product);
}

}  // namespace

bool has_few_rows_product(const FewRowsProduct& product, FloatType type) {
  return type != FloatType::kFloat && product.rows > 0 && product.rows <= kMostRows && product.in % kStep == 0 &&
         product.in >= kStep * kMostSlices && weight_rows(product) * product.in * 2 <= kMostWeightBytes &&
         product.columns % 4 == 0 && product.columns < (int64_t{1} << 30) &&
         is_made_for_9_0<multiply<__nv_bfloat16, kMostRows, 1, false>>() &&
         device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) >= kMostSharedBytes &&
         input_bytes(product, plan_of(product)) <= kMostSharedBytes;
}

void few_rows_product(const FewRowsProduct& product, FloatType type, Stream stream) {
  const Plan plan = plan_of(product);
  const auto run = [&](auto element) {
    using T = decltype(element);
    const auto with_rows = [&](auto rows) {
      const auto with_tiles = [&](auto tiles) {
        if (product.is_gated)
          launch<T, rows(), tiles(), true>(product, plan, stream_of(stream));
        else
          launch<T, rows(), tiles(), false>(product, plan, stream_of(stream));
      };
      if (plan.tiles == 1)
        with_tiles(std::integral_constant<int, 1>{});
      else
        with_tiles(std::integral_constant<int, 2>{});
    };
    switch (rows_of_kernel(product.rows)) {
      case 8:
        return with_rows(std::integral_constant<int, 8>{});
      default:
        return with_rows(std::integral_constant<int, kMostRows>{});
    }
  };
  DSFT_CHECK(type != FloatType::kFloat, "few_rows_product in fp32");
  if (type == FloatType::kHalf)
    run(__half{});
  else
    run(__nv_bfloat16{});
  check_launch("few_rows_product");
}

}  // namespace dsft::kernels::cuda
