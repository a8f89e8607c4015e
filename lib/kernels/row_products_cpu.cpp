#include "kernels/row_products_cpu.h"

#include <algorithm>
#include <cstring>

namespace dsft::kernels::cpu {
namespace {

template <int64_t kLanes>
struct Lanes {
  // vectors at any address; alike in all widths but for the number of lanes
  typedef float Type __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float))));
};

template <int64_t kLanes>
[[gnu::always_inline]] inline float sum_of_lanes(const typename Lanes<kLanes>::Type& lanes) {
  typename Lanes<kLanes / 2>::Type halves[2];
  std::memcpy(&halves, &lanes, sizeof(halves));
  const typename Lanes<kLanes / 2>::Type sum = halves[0] + halves[1];
  if constexpr (kLanes > 4)
    return sum_of_lanes<kLanes / 2>(sum);
  else
    return sum[0] + sum[1];
}

// sum += a * b, rounded once where there are instructions for that. Left to itself a compiler contracts the sums of one
// block and not those of another (GCC 13 avoids chains of 256 bits), and their entries differ.
template <int64_t kLanes>
[[gnu::always_inline]] inline void multiply_add(typename Lanes<kLanes>::Type& sum,
                                                const typename Lanes<kLanes>::Type& a,
                                                const typename Lanes<kLanes>::Type& b) {
#if defined(__x86_64__)
  if constexpr (kLanes > 4)
    asm("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  else
    sum += a * b;  // plain x86-64 has no such instruction
#elif defined(__aarch64__)
  static_assert(kLanes == 4);
  asm("fmla %0.4s, %1.4s, %2.4s" : "+w"(sum) : "w"(a), "w"(b));
#else
#error "row products need a multiply-add that is the same in every block"
#endif
}

// kRows x kColumns entries from (row, column) on. However large the block, an entry's sum is the same.
template <int64_t kLanes, int64_t kRows, int64_t kColumns>
[[gnu::always_inline]] inline void multiply_block(const RowProducts& products, int64_t row, int64_t column) {
  using Vector = typename Lanes<kLanes>::Type;
  const int64_t in = products.in;
  const float *x = products.x + row * in, *weight = products.weight + column * in;
  Vector sums[kRows][kColumns] = {};
  int64_t k = 0;
  for (; k + kLanes <= in; k += kLanes) {
    Vector weights[kColumns];
#pragma GCC unroll 8
    for (int64_t c = 0; c < kColumns; ++c) weights[c] = *reinterpret_cast<const Vector*>(weight + c * in + k);
#pragma GCC unroll 8
    for (int64_t r = 0; r < kRows; ++r) {
      const Vector values = *reinterpret_cast<const Vector*>(x + r * in + k);
#pragma GCC unroll 8
      for (int64_t c = 0; c < kColumns; ++c) multiply_add<kLanes>(sums[r][c], values, weights[c]);
    }
  }
  if (k < in) {  // what is left, with zeros behind it
    const size_t rest = static_cast<size_t>(in - k) * sizeof(float);
#pragma GCC unroll 8
    for (int64_t r = 0; r < kRows; ++r) {
      Vector values = {};
      std::memcpy(&values, x + r * in + k, rest);
#pragma GCC unroll 8
      for (int64_t c = 0; c < kColumns; ++c) {
        Vector weights = {};
        std::memcpy(&weights, weight + c * in + k, rest);
        multiply_add<kLanes>(sums[r][c], values, weights);
      }
    }
  }
#pragma GCC unroll 8
  for (int64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int64_t c = 0; c < kColumns; ++c) {
      const float sum = sum_of_lanes<kLanes>(sums[r][c]);
      products.y[(row + r) * products.columns + column + c] =
          products.bias != nullptr ? sum + products.bias[column + c] : sum;
    }
  }
}

template <int64_t kLanes, int64_t kRows, int64_t kColumns>
[[gnu::always_inline]] inline void multiply_rows(const RowProducts& products, int64_t first_row, int64_t last_row,
                                                 int64_t column) {
  int64_t row = first_row;
  for (; row + kRows <= last_row; row += kRows) multiply_block<kLanes, kRows, kColumns>(products, row, column);
  for (; row < last_row; ++row) multiply_block<kLanes, 1, kColumns>(products, row, column);
}

template <int64_t kLanes, int64_t kRows, int64_t kColumns>
[[gnu::always_inline]] inline void tiles(const RowProducts& products, int64_t begin, int64_t end) {
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t first_row = tile / products.tiles_across() * kTileRows,
                  first_column = tile % products.tiles_across() * kTileColumns,
                  last_row = std::min(products.rows, first_row + kTileRows),
                  last_column = std::min(products.columns, first_column + kTileColumns);
    int64_t column = first_column;
    for (; column + kColumns <= last_column; column += kColumns)
      multiply_rows<kLanes, kRows, kColumns>(products, first_row, last_row, column);
    for (; column < last_column; ++column) multiply_rows<kLanes, kRows, 1>(products, first_row, last_row, column);
  }
}

// As many sums as there are registers for, beside the vectors they are made of.
#ifdef __x86_64__
[[gnu::target("avx512f")]] void tiles_of_16_lanes(const RowProducts& products, int64_t begin, int64_t end) {
  tiles<16, 4, 4>(products, begin, end);
}
[[gnu::target("avx2,fma")]] void tiles_of_8_lanes(const RowProducts& products, int64_t begin, int64_t end) {
  tiles<8, 2, 4>(products, begin, end);
}
#endif
void tiles_of_4_lanes(const RowProducts& products, int64_t begin, int64_t end) {
  tiles<4, 2, 4>(products, begin, end);
}

}  // namespace

void multiply_tiles(const RowProducts& products, int64_t begin, int64_t end) {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f")) return tiles_of_16_lanes(products, begin, end);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return tiles_of_8_lanes(products, begin, end);
#endif
  tiles_of_4_lanes(products, begin, end);
}

}  // namespace dsft::kernels::cpu
