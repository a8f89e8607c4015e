#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

namespace dsft::device {

/// Whether work on this device is recorded; on others Graph calls it each time.
bool has_graphs(at::Device device);

/// The stream and the memory that several graphs share. They must not run at the same time, and none may read what
/// another's temporary tensors held; results that outlive a run go to tensors that exist before it is recorded.
class GraphGroup {
 public:
  /// On a device without graphs (the CPU) its graphs call their work each time.
  explicit GraphGroup(at::Device device);
  ~GraphGroup();
  GraphGroup(const GraphGroup&) = delete;
  GraphGroup& operator=(const GraphGroup&) = delete;

 private:
  friend class Graph;
  struct State;
  std::shared_ptr<State> state_;  // null: no graphs
};

/// The same operations on the same tensors, again and again, as one launch: an operation of a small model takes longer
/// to enqueue than to compute. Each run is ordered with what the current stream did before and does after it.
class Graph {
 public:
  explicit Graph(const GraphGroup& group);
  ~Graph();
  Graph(Graph&&) noexcept;
  Graph& operator=(Graph&&) noexcept;

  /// Does `work`: the first time by calling it (libraries settle their plans and workspaces then), the second time
  /// recorded, from then on without calling it. It must enqueue the same whenever it is called: no synchronisation, no
  /// memory from the host, no value that the host changes between runs.
  void run(const std::function<void()>& work);

 private:
  struct Recording;
  std::shared_ptr<GraphGroup::State> group_;
  std::unique_ptr<Recording> recording_;
  int64_t num_runs_ = 0;
};

}  // namespace dsft::device
