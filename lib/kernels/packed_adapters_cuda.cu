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
    const AdapterPointers& adapter = packed.adapters[i];
    const int64_t own_rank = rank - adapter.first_rank, own_row = row - adapter.first;
    if (own_rank < 0 || own_rank >= adapter.rank) continue;
    if (is_of_a)
      value = adapter.a[own_rank * packed.in + column];
    else if (own_row >= 0 && own_row < adapter.width)
      value = adapter.scale * adapter.b[own_row * adapter.rank + own_rank];
  }
  static_cast<T*>(is_of_a ? packed.a : packed.b)[index] = from_float<T>(value);
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

}  // namespace dsft::kernels::cuda
