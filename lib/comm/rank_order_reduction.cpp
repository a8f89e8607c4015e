#include "comm/rank_order_reduction.h"

#include <torch/types.h>

#include <algorithm>
#include <array>

#include "base/error.h"

namespace dsft::comm {
namespace {

constexpr std::array kCarriedTypes = {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf,
                                      at::kInt,   at::kLong,   at::kByte};

void accumulate(at::Tensor& total, const at::Tensor& next, ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      total.add_(next);
      return;
    case ReduceOp::kMax:
      at::maximum_out(total, total, next.to(total.scalar_type()));
      return;
    case ReduceOp::kMin:
      at::minimum_out(total, total, next.to(total.scalar_type()));
      return;
  }
}

}  // namespace

void reduce_in_rank_order(at::Tensor& output, const std::vector<at::Tensor>& contributions, ReduceOp op) {
  at::NoGradGuard no_grad;
  const bool is_16_bit = output.scalar_type() == at::kBFloat16 || output.scalar_type() == at::kHalf;
  at::Tensor total = contributions.front().to(is_16_bit ? at::kFloat : output.scalar_type(), /*non_blocking=*/false,
                                              /*copy=*/true);
  for (size_t rank = 1; rank < contributions.size(); ++rank) accumulate(total, contributions[rank], op);
  output.copy_(total.view_as(output));
}

Part part_of(int64_t numel, int size, int rank) {
  const int64_t base = numel / size, rest = numel % size;
  const int64_t begin = rank * base + std::min<int64_t>(rank, rest);
  return {begin, begin + base + (rank < rest ? 1 : 0)};
}

at::Tensor slice(const at::Tensor& flat, Part part) {
  return flat.narrow(0, part.begin, part.end - part.begin);
}

void check_cpu_tensor(const at::Tensor& tensor, const char* what) {
  DSFT_CHECK(tensor.defined(), what, " of a collective is undefined");
  if (!tensor.device().is_cpu()) {
    fail(ErrorKind::kCommunication, "a collective got ", what, " on ", tensor.device().str(),
         ", but this communicator carries CPU tensors only");
  }
  DSFT_CHECK(tensor.is_contiguous(), what, " of a collective has gaps");
  DSFT_CHECK(std::find(kCarriedTypes.begin(), kCarriedTypes.end(), tensor.scalar_type()) != kCarriedTypes.end(), what,
             " of a collective has the type ", at::toString(tensor.scalar_type()));
}

void check_slices(const at::Tensor& whole, const at::Tensor& slice, int num_ranks) {
  DSFT_CHECK(whole.numel() == slice.numel() * num_ranks && whole.scalar_type() == slice.scalar_type(),
             "a collective over ", num_ranks, " ranks got a whole of ", whole.numel(), " and slices of ", slice.numel(),
             " elements");
}

}  // namespace dsft::comm
