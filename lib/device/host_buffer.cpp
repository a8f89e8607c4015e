#include "device/host_buffer.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "base/error.h"
#include "device/cuda_device.h"

namespace dsft::device {
namespace {

// whole pages, also of elements of 16 bits
constexpr int64_t kTouchedElements = 1 << 15;

/// Owns mapped memory and the lock of its pages.
class Pages {
 public:
  explicit Pages(size_t num_bytes)
      : num_bytes_(num_bytes),
        memory_(::mmap(nullptr, num_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (memory_ == MAP_FAILED)
      fail(ErrorKind::kDevice, "out of memory: the host gave no ", num_bytes, " bytes (", std::strerror(errno), ")");
    ::madvise(memory_, num_bytes, MADV_HUGEPAGE);  // advice: a kernel without them says no
  }
  ~Pages() {
    if (is_locked_) cuda::unpin(memory_);
    ::munmap(memory_, num_bytes_);
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  void lock() {
    const std::string error = cuda::pin(memory_, num_bytes_);
    if (!error.empty())
      fail(ErrorKind::kDevice, num_bytes_, " bytes of host memory could not be pinned: ", error,
           ". Set pin_memory: false where offloading is asked for, or free host memory.");
    is_locked_ = true;
  }
  char* begin() const { return static_cast<char*>(memory_); }

 private:
  size_t num_bytes_;
  void* memory_;
  bool is_locked_ = false;
};

}  // namespace

HostBuffer::HostBuffer(int64_t numel, at::ScalarType type, HostPages pages, const HostMemory& memory) {
  const at::TensorOptions options(type);
  if (numel == 0) {  // nothing can be mapped
    tensor_ = at::empty({0}, options);
    return;
  }
  const auto element = static_cast<int64_t>(c10::elementSize(type));
  require_host_memory("a buffer", numel * element, 1, "offload less", memory);
  const auto mapped = std::make_shared<Pages>(static_cast<size_t>(numel * element));
  const int64_t num_chunks = (numel + kTouchedElements - 1) / kTouchedElements;
  at::parallel_for(0, num_chunks, 1, [&](int64_t first, int64_t last) {
    const int64_t end = std::min(numel, last * kTouchedElements);
    std::memset(mapped->begin() + first * kTouchedElements * element, 0,
                static_cast<size_t>((end - first * kTouchedElements) * element));
  });
  if (pages == HostPages::kPinned) mapped->lock();
  tensor_ = at::from_blob(
      mapped->begin(), {numel}, [mapped](void*) {}, options);
}

}  // namespace dsft::device
