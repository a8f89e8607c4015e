#include "comm/small_collectives.h"

#include <torch/types.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace dsft::comm {
namespace {

at::Tensor to_tensor(const std::string& bytes, int64_t size) {
  at::Tensor tensor = at::zeros({size}, at::kByte);
  std::memcpy(tensor.data_ptr<uint8_t>(), bytes.data(), bytes.size());
  return tensor;
}

std::string to_bytes(const uint8_t* data, int64_t size) {
  return std::string(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
}

}  // namespace

std::string broadcast_bytes(Communicator& communicator, const std::string& bytes, int root) {
  at::Tensor size = at::full({1}, static_cast<int64_t>(bytes.size()), at::kLong);
  communicator.broadcast(size, root);
  const int64_t num_bytes = size.item<int64_t>();
  at::Tensor data = communicator.rank() == root ? to_tensor(bytes, num_bytes) : at::empty({num_bytes}, at::kByte);
  communicator.broadcast(data, root);
  return to_bytes(data.data_ptr<uint8_t>(), num_bytes);
}

// All are as long as the longest on the way.
std::vector<std::string> all_gather_bytes(Communicator& communicator, const std::string& bytes) {
  const int64_t num_ranks = communicator.size();
  const at::Tensor own_size = at::full({1}, static_cast<int64_t>(bytes.size()), at::kLong);
  at::Tensor sizes = at::empty({num_ranks}, at::kLong);
  communicator.all_gather(sizes, own_size);
  const auto* size_of = sizes.const_data_ptr<int64_t>();
  const int64_t longest = *std::max_element(size_of, size_of + num_ranks);
  at::Tensor data = at::empty({num_ranks * longest}, at::kByte);
  if (longest > 0) communicator.all_gather(data, to_tensor(bytes, longest));
  std::vector<std::string> all;
  for (int64_t rank = 0; rank < num_ranks; ++rank)
    all.push_back(to_bytes(data.const_data_ptr<uint8_t>() + rank * longest, size_of[rank]));
  return all;
}

int64_t all_reduce_value(Communicator& communicator, int64_t value, ReduceOp op) {
  at::Tensor tensor = at::full({1}, value, at::kLong);
  communicator.all_reduce(tensor, op);
  return tensor.item<int64_t>();
}

double all_reduce_value(Communicator& communicator, double value, ReduceOp op) {
  at::Tensor tensor = at::full({1}, value, at::kDouble);
  communicator.all_reduce(tensor, op);
  return tensor.item<double>();
}

bool any_rank(Communicator& communicator, bool flag) {
  return all_reduce_value(communicator, static_cast<int64_t>(flag), ReduceOp::kMax) != 0;
}

}  // namespace dsft::comm
