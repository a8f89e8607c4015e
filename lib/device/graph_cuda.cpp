#include <ATen/core/CachingHostAllocator.h>
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

// Ends a capture that an exception left open: every later CUDA call of the process would fail.
void abandon(at::cuda::CUDAGraph& graph, c10::DeviceIndex device, c10::MempoolId_t& pool) {
  const auto try_to = [](const auto& call) {
    try {
      call();
      return true;
    } catch (const std::exception&) {
      return false;  // what broke the capture is the fault to tell
    }
  };
  if (try_to([&] { graph.capture_end(); })) return;
  // a capture that cannot end may leave its pool open, for the device's memory and for pinned memory
  try_to([&] { c10::cuda::CUDACachingAllocator::endAllocateToPool(device, pool); });
  try_to([&] { at::getHostAllocator(at::kCUDA)->end_allocate_to_pool(pool); });
  pool = at::cuda::graph_pool_handle();
}

void record(at::cuda::CUDAGraph& graph, c10::DeviceIndex device, c10::MempoolId_t& pool,
            const std::function<void()>& work) {
  // what is cached for other work could not be given back while a recording asks for memory
  c10::cuda::CUDACachingAllocator::emptyCache();
  // autograd's threads enqueue into the capture too, and other threads may use the device meanwhile
  graph.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
  try {
    work();
    graph.capture_end();
  } catch (...) {
    const std::exception_ptr fault = std::current_exception();
    abandon(graph, device, pool);
    std::rethrow_exception(fault);
  }
}

// While it lives, work goes to `inner`, behind what `outer` has done; then `outer` goes on behind that, also where the
// work threw.
class StreamDetour {
 public:
  StreamDetour(const at::cuda::CUDAStream& outer, const at::cuda::CUDAStream& inner)
      : outer_(outer), inner_(inner), guard_(inner) {
    order(outer_, inner_);
  }
  ~StreamDetour() {
    try {
      order(inner_, outer_);
    } catch (const std::exception&) {
      // a device that takes no events any more says so at the next call
    }
  }
  StreamDetour(const StreamDetour&) = delete;
  StreamDetour& operator=(const StreamDetour&) = delete;

 private:
  at::cuda::CUDAStream outer_, inner_;
  at::cuda::CUDAStreamGuard guard_;
};

}  // namespace

void Graph::run(const std::function<void()>& work) {
  if (!group_) return work();
  const StreamDetour detour(at::cuda::getCurrentCUDAStream(group_->stream.device_index()), group_->stream);
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
  ++num_runs_;
}

}  // namespace dsft::device
