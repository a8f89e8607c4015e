#include <algorithm>

#include "kernels/cuda_common.cuh"
#include "kernels/packed_adapters_cuda.h"

namespace dsft::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// One element a thread: those of a, then those of b.
template <typename T>
__global__ void __launch_bounds__(kThreads) pack(PackedAdapterPointers packed) {
  int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t elements_of_a = packed.ranks * packed.in;
  const bool is_of_a = index < elements_of_a;
  if (!is_of_a) index -= elements_of_a;
  const int64_t row_size = is_of_a ? packed.in : packed.ranks, row = index / row_size, column = index % row_size;
  if (!is_of_a && row >= packed.columns) return;
  const int64_t rank = is_of_a ? row : column;
  float value = 0;
#pragma unroll
  for (int i = 0; i < kMostPackedAdapters; ++i) {
    if (i >= packed.num_adapters) break;
    const AdapterPointers<const float>& adapter = packed.adapters[i];
    const int64_t own_rank = rank - adapter.first_rank, own_row = row - adapter.first;
    if (own_rank < 0 || own_rank >= adapter.rank) continue;
    if (is_of_a)
      value = adapter.a[own_rank * packed.in + column];
    else if (own_row >= 0 && own_row < adapter.width)
      value = adapter.scale * adapter.b[own_row * adapter.rank + own_rank];
  }
  static_cast<T*>(is_of_a ? packed.a : packed.b)[index] = from_float<T>(value);
}

// One element a thread, one adapter a row of blocks: the elements of its a, where there is something to add, then those
// of its b. Single floats: sums that are views of one buffer may start anywhere in it.
__global__ void __launch_bounds__(kThreads) add_unpacked(PackedGradientPointers gradients) {
  const AdapterPointers<float>& sum = gradients.sums[blockIdx.y];
  int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (gradients.a != nullptr) {
    const int64_t elements_of_a = sum.rank * gradients.in;
    if (index < elements_of_a) {
      sum.a[index] += gradients.a[sum.first_rank * gradients.in + index];
      return;
    }
    index -= elements_of_a;
  }
  if (gradients.b == nullptr || index >= sum.width * sum.rank) return;
  const int64_t row = index / sum.rank, column = index % sum.rank;
  sum.b[index] += sum.scale * gradients.b[(sum.first + row) * gradients.ranks + sum.first_rank + column];
}

}  // namespace

void pack_adapters(const PackedAdapterPointers& packed, FloatType type, Stream stream) {
  const int64_t elements = packed.ranks * (packed.in + packed.columns);
  if (elements == 0) return;
  visit(type, [&](auto element) {
    pack<decltype(element)>
        <<<static_cast<unsigned>((elements + kThreads - 1) / kThreads), kThreads, 0, stream_of(stream)>>>(packed);
  });
  check_launch("pack_adapters");
}

void add_unpacked_gradients(const PackedGradientPointers& gradients, Stream stream) {
  int64_t elements = 0;  // of the largest adapter
  for (int i = 0; i < gradients.num_adapters; ++i) {
    const AdapterPointers<float>& sum = gradients.sums[i];
    elements = std::max(
        elements, sum.rank * ((gradients.a != nullptr ? gradients.in : 0) + (gradients.b != nullptr ? sum.width : 0)));
  }
  if (elements == 0) return;
  const dim3 blocks(static_cast<unsigned>((elements + kThreads - 1) / kThreads),
                    static_cast<unsigned>(gradients.num_adapters));
  add_unpacked<<<blocks, kThreads, 0, stream_of(stream)>>>(gradients);
  check_launch("add_unpacked_gradients");
}

}  // namespace dsft::kernels::cuda
