#include "train/graphed_passes.h"

#include <algorithm>

#include "base/error.h"
#include "device/device.h"

namespace dsft::train {

namespace {

// After so many micro-batches for each graph all counts are halved: what was common once need not be so now. Shapes
// that come to nothing are forgotten, so that there are never many.
constexpr size_t kUsesBetweenHalvings = 64;

// A graph that loses its place costs a wait for the device, and the other one a recording: shapes that come about as
// often must not take turns.
constexpr int64_t kTimesAsOften = 2;

}  // namespace

GraphedPasses::GraphedPasses(at::Device device, GraphLimits limits) : device_(device), limits_(limits), group_(device) {
  DSFT_CHECK(limits_.max_graphs > 0, "no graph is to be kept");
}

bool GraphedPasses::takes(const Batch& batch) const {
  return batch.supervised.numel() > 0 && padded_shape(batch).tokens <= limits_.max_tokens;
}

void GraphedPasses::run(const Batch& batch, const std::function<void(const Batch&)>& pass) {
  const PaddedShape shape = padded_shape(batch);
  count(shape);
  if (!has_place(shape)) return pass(batch.to(device_));
  const Batch padded = pad_batch(batch, shape);
  Entry& entry = entry_of(padded, shape);
  const Batch& on_device = entry.buffer.load(padded);
  ++entry.num_runs;
  entry.graph.run([&] { pass(on_device); });
}

void GraphedPasses::count(const PaddedShape& shape) {
  ++uses_[shape];
  if (++num_counted_ < kUsesBetweenHalvings * limits_.max_graphs) return;
  num_counted_ = 0;
  for (auto& [counted, uses] : uses_) uses /= 2;
  std::erase_if(uses_, [](const auto& item) { return item.second == 0; });
}

int64_t GraphedPasses::num_uses(const PaddedShape& shape) const {
  const auto found = uses_.find(shape);
  return found == uses_.end() ? 0 : found->second;
}

std::list<GraphedPasses::Entry>::iterator GraphedPasses::find(const PaddedShape& shape) {
  return std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.shape == shape; });
}

// Whether the shape has an entry, or room for one, which it may take from another.
bool GraphedPasses::has_place(const PaddedShape& shape) {
  if (entries_.size() < limits_.max_graphs || find(shape) != entries_.end()) return true;
  const auto least = std::min_element(entries_.begin(), entries_.end(), [this](const Entry& a, const Entry& b) {
    return num_uses(a.shape) < num_uses(b.shape);
  });
  // one that has faded away is at least as good as one that comes the first time
  if (num_uses(shape) <= kTimesAsOften * std::max<int64_t>(num_uses(least->shape), 1)) return false;
  if (least->num_runs > 1) device::synchronize(device_);  // it is recorded, and may still be running
  entries_.erase(least);
  return true;
}

GraphedPasses::Entry& GraphedPasses::entry_of(const Batch& padded, const PaddedShape& shape) {
  const auto found = find(shape);
  if (found != entries_.end()) return *found;
  return entries_.emplace_back(Entry{shape, BatchBuffer(padded, device_), device::Graph(group_)});
}

}  // namespace dsft::train
