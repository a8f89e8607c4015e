#include "base/error.h"
#include "device/cuda_device.h"
#include "device/graph.h"

namespace dsft::device::cuda {

bool is_built() {
  return false;
}
int device_count() {
  return 0;
}
std::string device_name(int) {
  DSFT_CHECK(false, "built without CUDA");
}
void extend_segments() {
  DSFT_CHECK(false, "built without CUDA");
}
void set_device(int) {
  DSFT_CHECK(false, "built without CUDA");
}
void synchronize() {
  DSFT_CHECK(false, "built without CUDA");
}
void forbid_waits(bool) {}
void* current_stream(int) {
  DSFT_CHECK(false, "built without CUDA");
}
int64_t peak_allocated_bytes(int) {
  DSFT_CHECK(false, "built without CUDA");
}
int64_t attainable_bytes(int) {
  DSFT_CHECK(false, "built without CUDA");
}
int64_t free_bytes(int) {
  DSFT_CHECK(false, "built without CUDA");
}
void restart_peak(int) {
  DSFT_CHECK(false, "built without CUDA");
}
void forget_memory_use(int) {
  DSFT_CHECK(false, "built without CUDA");
}
void clear_error() {
  DSFT_CHECK(false, "built without CUDA");
}
std::string pin(void*, size_t) {
  return "this dsft was built without CUDA, and pinning is for a GPU's copies";
}
void unpin(void*) {
  DSFT_CHECK(false, "built without CUDA");
}

}  // namespace dsft::device::cuda

namespace dsft::device {

bool has_graphs(at::Device) {
  return false;
}

struct GraphGroup::State {};
struct Graph::Recording {};

GraphGroup::GraphGroup(at::Device) {}
GraphGroup::~GraphGroup() = default;
Graph::Graph(const GraphGroup& group) : group_(group.state_) {}
Graph::~Graph() = default;
Graph::Graph(Graph&&) noexcept = default;
Graph& Graph::operator=(Graph&&) noexcept = default;

void Graph::run(const std::function<void()>& work) {
  work();
}

}  // namespace dsft::device
