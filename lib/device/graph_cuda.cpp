#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>

#include <exception>

#include "device/graph.h"

namespace dsft::device {

bool has_graphs(at::Device device) {
  return device.is_cuda();
}

struct GraphGroup::State {
  explicit State(at::Device device)
      : stream(at::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index())),
        pool(at::cuda::graph_pool_handle()) {}
  at::cuda::CUDAStream stream;
  c10::MempoolId_t pool;
};

GraphGroup::GraphGroup(at::Device device) : state_(device.is_cuda() ? std::make_shared<State>(device) : nullptr) {}
GraphGroup::~GraphGroup() = default;

struct Graph::Recording {
  at::cuda::CUDAGraph graph;
};

Graph::Graph(const GraphGroup& group) : group_(group.state_) {}
Graph::~Graph() = default;
Graph::Graph(Graph&&) noexcept = default;
Graph& Graph::operator=(Graph&&) noexcept = default;

namespace {

void order(const at::cuda::CUDAStream& first, const at::cuda::CUDAStream& second) {
  at::cuda::CUDAEvent event;
  event.record(first);
  event.block(second);
}

// A capture that an exception leaves open would make every later CUDA call of the process fail.
void record(at::cuda::CUDAGraph& graph, c10::DeviceIndex device, c10::MempoolId_t& pool,
            const std::function<void()>& work) {
  // what is cached for other work could not be given back while a recording asks for memory
  c10::cuda::CUDACachingAllocator::emptyCache();
  // autograd's threads enqueue into the capture too, and other threads may use the device meanwhile
  graph.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
  try {
    work();
  } catch (...) {
    const std::exception_ptr fault = std::current_exception();
    try {
      graph.capture_end();
    } catch (const std::exception&) {
      // what broke the capture is the fault to tell; a capture that cannot end leaves its pool open
      c10::cuda::CUDACachingAllocator::endAllocateToPool(device, pool);
      pool = at::cuda::graph_pool_handle();
    }
    std::rethrow_exception(fault);
  }
  graph.capture_end();
}

}  // namespace

void Graph::run(const std::function<void()>& work) {
  if (!group_) return work();
  const at::cuda::CUDAStream outer = at::cuda::getCurrentCUDAStream(group_->stream.device_index());
  order(outer, group_->stream);
  {
    const at::cuda::CUDAStreamGuard guard(group_->stream);
    if (num_runs_ == 0) {
      work();
    } else {
      if (!recording_) {
        auto recording = std::make_unique<Recording>();
        record(recording->graph, group_->stream.device_index(), group_->pool, work);
        recording_ = std::move(recording);
      }
      recording_->graph.replay();
    }
  }
  ++num_runs_;
  order(group_->stream, outer);
}

}  // namespace dsft::device
