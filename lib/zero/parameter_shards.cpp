#include "zero/parameter_shards.h"

#include <torch/types.h>

#include <algorithm>

#include "base/error.h"
#include "device/host_memory.h"
#include "device/stream_order.h"
#include "nn/parameter_memory.h"
#include "zero/shard_plan.h"

namespace dsft::zero {
namespace {

// Moves parameters of one block and type behind one another into a buffer that is sharded.
std::unique_ptr<GatheredBuffer> shard(const std::vector<at::Tensor>& parameters, comm::Communicator& communicator,
                                      const SlicePlace& place) {
  const at::NoGradGuard no_grad;
  std::vector<PlannedParameter> planned;
  for (const at::Tensor& parameter : parameters) planned.push_back({parameter.numel(), 0, /*is_sharded=*/true});
  const ShardPlan plan(planned, communicator.size(), communicator.rank());
  const at::Tensor whole = at::zeros({plan.whole_size()}, parameters[0].options().requires_grad(false));
  for (size_t i = 0; i < parameters.size(); ++i) {
    at::Tensor parameter = parameters[i];
    const at::Tensor place =
        whole.narrow(0, plan.offset(static_cast<int64_t>(i)), parameter.numel()).view(parameter.sizes());
    if (nn::has_memory(parameter)) place.copy_(parameter);
    parameter.set_data(place);
  }
  return std::make_unique<GatheredBuffer>(whole, communicator, place);
}

// Where slices are to lie, once all ranks know that there is room.
SlicePlace place_of(const std::vector<FrozenParameter>& frozen, comm::Communicator& communicator,
                    const std::optional<HostShare>& offloads) {
  if (!offloads || frozen.empty()) return {};
  int64_t bytes = 0;
  for (const FrozenParameter& item : frozen) bytes += static_cast<int64_t>(item.parameter.nbytes());
  device::require_host_memory("the offloaded parameters", bytes / communicator.size(), offloads->num_ranks,
                              "set zero.offload_param.device: none");
  communicator.barrier();
  return {offloads->pages, device::side_stream(frozen.front().parameter.device())};
}

}  // namespace

ParameterShards::ParameterShards(int64_t num_blocks, const std::vector<FrozenParameter>& frozen,
                                 const std::vector<BlockBuffer>& trained, comm::Communicator& communicator,
                                 const std::optional<HostShare>& offloads)
    : by_block_(static_cast<size_t>(num_blocks)) {
  const SlicePlace place = place_of(frozen, communicator, offloads);
  for (size_t first = 0; first < frozen.size();) {
    std::vector<at::Tensor> together;
    size_t last = first;
    for (; last < frozen.size() && frozen[last].block == frozen[first].block &&
           frozen[last].parameter.scalar_type() == frozen[first].parameter.scalar_type();
         ++last)
      together.push_back(frozen[last].parameter);
    frozen_.push_back(shard(together, communicator, place));
    by_block_[static_cast<size_t>(frozen[first].block)].push_back(frozen_.back().get());
    first = last;
  }
  for (const BlockBuffer& item : trained) by_block_[static_cast<size_t>(item.block)].push_back(item.buffer);
  for (const auto& buffers : by_block_) all_.insert(all_.end(), buffers.begin(), buffers.end());
}

void ParameterShards::share(int64_t block, int64_t with_block) {
  auto& buffers = by_block_[static_cast<size_t>(block)];
  const auto& others = by_block_[static_cast<size_t>(with_block)];
  buffers.insert(buffers.end(), others.begin(), others.end());
}

GatheredBuffer* ParameterShards::buffer_of(const at::Tensor& parameter) const {
  const auto found =
      std::find_if(all_.begin(), all_.end(), [&](const auto* buffer) { return buffer->holds(parameter); });
  return found == all_.end() ? nullptr : *found;
}

void ParameterShards::begin_block(int64_t block, int64_t next) {
  if (is_all_whole_) return;
  const auto& needed = by_block_[static_cast<size_t>(block)];
  if (kept_ >= 0)
    for (GatheredBuffer* buffer : by_block_[static_cast<size_t>(kept_)])
      if (std::find(needed.begin(), needed.end(), buffer) == needed.end()) buffer->release();
  kept_ = -1;
  for (GatheredBuffer* buffer : needed) buffer->start_gather();
  for (GatheredBuffer* buffer : needed) buffer->gather();
  if (next < 0) return;
  for (GatheredBuffer* buffer : by_block_[static_cast<size_t>(next)]) buffer->start_gather();
}

void ParameterShards::end_block(int64_t block, bool is_needed_next) {
  if (is_all_whole_) return;
  if (is_needed_next) {
    kept_ = block;
    return;
  }
  for (GatheredBuffer* buffer : by_block_[static_cast<size_t>(block)]) buffer->release();
}

void ParameterShards::end_passes() {
  if (is_all_whole_) return;
  for (GatheredBuffer* buffer : all_) buffer->release();
  kept_ = -1;
}

WholeParameters::WholeParameters(ParameterShards* shards) : shards_(shards) {
  if (!shards_) return;
  DSFT_CHECK(!shards_->is_all_whole_, "parameters are gathered twice");
  shards_->kept_ = -1;
  for (GatheredBuffer* buffer : shards_->all_) buffer->start_gather();
  for (GatheredBuffer* buffer : shards_->all_) buffer->gather();
  shards_->is_all_whole_ = true;
}

WholeParameters::~WholeParameters() {
  if (!shards_) return;
  for (GatheredBuffer* buffer : shards_->all_) buffer->release();
  shards_->is_all_whole_ = false;
}

}  // namespace dsft::zero
