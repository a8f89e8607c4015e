#include "train/graphed_passes.h"

#include <algorithm>

#include "device/device.h"

namespace dsft::train {

GraphedPasses::GraphedPasses(at::Device device, GraphLimits limits)
    : device_(device), limits_(limits), group_(device) {}

bool GraphedPasses::takes(const Batch& batch) const {
  return batch.supervised.numel() > 0 && padded_shape(batch).tokens <= limits_.max_tokens;
}

void GraphedPasses::run(const Batch& batch, const std::function<void(const Batch&)>& pass) {
  const PaddedShape shape = padded_shape(batch);
  const Batch padded = pad_batch(batch, shape);
  Entry& entry = entry_of(padded, shape);
  const Batch& on_device = entry.buffer.load(padded);
  ++entry.num_uses;
  entry.graph.run([&] { pass(on_device); });
}

GraphedPasses::Entry& GraphedPasses::entry_of(const Batch& padded, const PaddedShape& shape) {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.shape == shape; });
  if (found != entries_.end()) return *found;
  if (entries_.size() == limits_.max_graphs) {
    const auto least = std::min_element(entries_.begin(), entries_.end(),
                                        [](const Entry& a, const Entry& b) { return a.num_uses < b.num_uses; });
    if (least->num_uses > 1) device::synchronize(device_);  // it is recorded, and may still be running
    entries_.erase(least);
  }
  return entries_.emplace_back(Entry{shape, BatchBuffer(padded, device_), device::Graph(group_)});
}

}  // namespace dsft::train
