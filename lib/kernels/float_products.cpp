#include "kernels/float_products.h"

#include <torch/types.h>

#include <utility>

namespace dsft::kernels {
namespace {

// Whether cuBLAS writes fp32 sums of 16-bit products.
bool has_wide_products(const at::Tensor& a) {
  return a.is_cuda() && c10::elementSize(a.scalar_type()) == 2;
}

// sum = beta * sum + scale * a b; of a beta of 0 the sum is not read.
void multiply_into(at::Tensor sum, int beta, const at::Tensor& a, const at::Tensor& b, double scale) {
  if (has_wide_products(a))
    at::addmm_out(sum, sum, a, b, at::kFloat, beta, scale);
  else if (a.scalar_type() == sum.scalar_type())
    sum.addmm_(a, b, beta, scale);
  else if (beta == 0)
    sum.copy_(at::mm(a, b)).mul_(scale);
  else
    sum.add_(at::mm(a, b), scale);
}

}  // namespace

at::Tensor multiply_to_float(const at::Tensor& a, const at::Tensor& b) {
  if (has_wide_products(a)) return at::mm(a, b, at::kFloat);
  const at::Tensor product = at::mm(a, b);
  return c10::elementSize(a.scalar_type()) == 2 ? product.to(at::kFloat) : product;
}

void add_product(at::Tensor sum, const at::Tensor& a, const at::Tensor& b, double scale) {
  multiply_into(std::move(sum), /*beta=*/1, a, b, scale);
}

void write_product(at::Tensor product, const at::Tensor& a, const at::Tensor& b, double scale) {
  multiply_into(std::move(product), /*beta=*/0, a, b, scale);
}

at::Tensor multiply_in_parts(const at::Tensor& x, const at::Tensor& weight) {
  constexpr int64_t kMostRows = 128, kParts = 8, kLeastOfPart = 128;
  const int64_t in = x.size(1), of_part = in / kParts;
  if (!has_wide_products(x) || x.size(0) > kMostRows || in % kParts != 0 || of_part < kLeastOfPart ||
      !weight.is_contiguous())
    return {};
  const at::Tensor columns = x.contiguous().view({x.size(0), kParts, of_part}).transpose(0, 1);
  const at::Tensor rows = weight.view({weight.size(0), kParts, of_part}).permute({1, 2, 0});
  return at::bmm(columns, rows, at::kFloat);
}

}  // namespace dsft::kernels
