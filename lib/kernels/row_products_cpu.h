#pragma once

#include <cstdint>

namespace dsft::kernels::cpu {

/// A tile's x stays in the second cache while its weights pass.
constexpr int64_t kTileRows = 64, kTileColumns = 32;

/// y = x W^T + bias: x [rows, in], weight [columns, in], bias [columns] or null, y [rows, columns], all dense.
struct RowProducts {
  const float *x, *weight, *bias;
  float* y;
  int64_t rows, in, columns;

  int64_t tiles_across() const { return (columns + kTileColumns - 1) / kTileColumns; }
  int64_t num_tiles() const { return (rows + kTileRows - 1) / kTileRows * tiles_across(); }
};

/// Computes tiles [begin, end), row-major. Each entry is the sum of the vectors' lanes, and a lane the sum of every
/// n-th product in the order of `in`.
void multiply_tiles(const RowProducts& products, int64_t begin, int64_t end);

}  // namespace dsft::kernels::cpu
