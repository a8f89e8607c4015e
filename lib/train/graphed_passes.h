#pragma once

#include <functional>
#include <list>
#include <map>

#include "batch/padded_batch.h"
#include "device/graph.h"

namespace dsft::train {

/// Which micro-batches are recorded.
struct GraphLimits {
  int64_t max_tokens = 4096;  ///< of a padded micro-batch
  size_t max_graphs = 32;     ///< kept, of the shapes that come most
};

/// Passes over micro-batches as device::Graphs, one for each shape that padding brings them to. Where there are more
/// shapes than graphs are kept, a shape that comes far more often takes the place of the one that comes least; until
/// then its micro-batches are enqueued as they are.
class GraphedPasses {
 public:
  /// At least one graph must be allowed. On a device without graphs the passes are called, padded, in their places.
  GraphedPasses(at::Device device, GraphLimits limits);

  /// Whether a micro-batch can be recorded: it is small and has a supervised token.
  bool takes(const Batch& batch) const;

  /// Does `pass` with the batch on the device: padded and by the graph of its shape, where that has one. `pass` must be
  /// the same function each time, and recordable (device::Graph). The host waits where a shape is recorded (when it
  /// comes the second time) and where a recorded one loses its place.
  void run(const Batch& batch, const std::function<void(const Batch&)>& pass);

  /// For other work of the same device between the passes.
  const device::GraphGroup& group() const { return group_; }

 private:
  struct Entry {
    PaddedShape shape;
    BatchBuffer buffer;
    device::Graph graph;
    int64_t num_runs = 0;
  };
  void count(const PaddedShape& shape);
  int64_t num_uses(const PaddedShape& shape) const;
  std::list<Entry>::iterator find(const PaddedShape& shape);
  bool has_place(const PaddedShape& shape);
  Entry& entry_of(const Batch& padded, const PaddedShape& shape);

  at::Device device_;
  GraphLimits limits_;
  device::GraphGroup group_;
  std::list<Entry> entries_;
  std::map<PaddedShape, int64_t> uses_;  // lately, also of shapes without an entry
  size_t num_counted_ = 0;               // since the uses were halved
};

}  // namespace dsft::train
