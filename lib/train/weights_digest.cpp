#include "train/weights_digest.h"

#include <torch/types.h>

#include <algorithm>

#include "lora/adapters.h"

namespace dsft::train {
namespace {

constexpr int64_t kPieceElements = int64_t{1} << 20;  // bounds the scratch memory, some times 8 bytes an element
constexpr int64_t kMix = 0x1E3779B97F4A7C15;          // of the odd constants that scatter consecutive numbers

// Sums of the bits, each times an odd number of its place: where one value differs the sums do, whatever it is. On a
// GPU nothing is waited for.
at::Tensor digest_of(const at::Tensor& tensor) {
  const at::Tensor values = tensor.detach().flatten();
  const at::Tensor bits = values.view(values.element_size() == 2 ? at::kShort : at::kInt);
  at::Tensor sum = at::zeros({}, bits.options().dtype(at::kLong));
  for (int64_t begin = 0; begin < bits.numel(); begin += kPieceElements) {
    const int64_t count = std::min(kPieceElements, bits.numel() - begin);
    at::Tensor factors = at::arange(begin, begin + count, sum.options()).mul_(kMix);
    factors.bitwise_xor_(factors.bitwise_right_shift(29)).mul_(kMix).bitwise_or_(1);
    sum.add_(factors.mul_(bits.narrow(0, begin, count)).sum());
  }
  return sum;
}

}  // namespace

uint64_t digest_trained_weights(const model::CausalLm& model, zero::ParameterShards* shards) {
  const at::NoGradGuard no_grad;
  at::Tensor digest;
  const std::vector<lora::TrainableTensor> trained = lora::trainable_tensors(model);
  for (int64_t block = 0; block < model.num_blocks(); ++block) {
    const auto is_here = [&](const lora::TrainableTensor& item) { return model.block_of(item.name) == block; };
    // adapters are whole on every rank
    const bool is_gathered = shards && std::any_of(trained.begin(), trained.end(),
                                                   [&](const auto& item) { return is_here(item) && !item.is_adapter; });
    if (is_gathered) shards->begin_block(block, /*next=*/-1);
    for (const lora::TrainableTensor& item : trained) {
      if (!is_here(item)) continue;
      const at::Tensor own = digest_of(item.tensor);
      digest = digest.defined() ? digest.mul_(kMix).add_(own) : own;
    }
    if (is_gathered) shards->end_block(block, /*is_needed_next=*/false);
  }
  return static_cast<uint64_t>(digest.item<int64_t>());
}

std::vector<uint64_t> gather_digests(comm::Communicator& communicator, uint64_t own) {
  const at::Tensor mine = at::full({1}, static_cast<int64_t>(own), at::kLong);
  at::Tensor all = at::empty({communicator.size()}, at::kLong);
  communicator.all_gather(all, mine);
  const int64_t* values = all.const_data_ptr<int64_t>();
  return {values, values + all.numel()};
}

}  // namespace dsft::train
