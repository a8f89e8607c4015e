#pragma once

#include <functional>
#include <list>

#include "batch/padded_batch.h"
#include "device/graph.h"

namespace dsft::train {

/// Which micro-batches are recorded.
struct GraphLimits {
  int64_t max_tokens = 4096;  ///< of a padded micro-batch
  size_t max_graphs = 32;     ///< kept; the one whose last use is longest ago goes
};

/// Passes over micro-batches as device::Graphs, one for each shape that padding brings them to (and each epoch, which
/// dropout's random numbers depend on).
class GraphedPasses {
 public:
  GraphedPasses(at::Device device, GraphLimits limits);

  /// Whether a micro-batch is recorded: it is small and has a supervised token.
  bool takes(const Batch& batch) const;

  /// Does `pass` with the batch, padded and on the device, by the graph of its shape. `pass` must be the same function
  /// each time, and recordable (device::Graph).
  void run(const Batch& batch, const std::function<void(const Batch&)>& pass);

  /// For other work of the same device between the passes.
  const device::GraphGroup& group() const { return group_; }

 private:
  struct Entry {
    PaddedShape shape;
    int64_t epoch;
    BatchBuffer buffer;
    device::Graph graph;
  };
  Entry& entry_of(const Batch& padded, const PaddedShape& shape);

  at::Device device_;
  GraphLimits limits_;
  device::GraphGroup group_;
  std::list<Entry> entries_;  // the last used one first
};

}  // namespace dsft::train
