#pragma once

#include <functional>
#include <list>

#include "batch/padded_batch.h"
#include "device/graph.h"

namespace dsft::train {

/// Which micro-batches are recorded.
struct GraphLimits {
  int64_t max_tokens = 4096;  ///< of a padded micro-batch
  size_t max_graphs = 32;     ///< kept; the one that was used least goes, so that rare shapes push out no others
};

/// Passes over micro-batches as device::Graphs, one for each shape that padding brings them to.
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
    BatchBuffer buffer;
    device::Graph graph;
    int64_t num_uses = 0;
  };
  Entry& entry_of(const Batch& padded, const PaddedShape& shape);

  at::Device device_;
  GraphLimits limits_;
  device::GraphGroup group_;
  std::list<Entry> entries_;
};

}  // namespace dsft::train
