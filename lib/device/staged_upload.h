#pragma once

#include <ATen/core/Tensor.h>

#include <c10/core/Event.h>

#include <functional>
#include <optional>
#include <vector>

namespace dsft::device {

/// Fills tensors with what the host reads or makes piece by piece. For a GPU the pieces go through two pinned buffers
/// on a stream of its own: one is filled while the other is on its way. For one thread; several have one each.
class StagedUpload {
 public:
  /// Pieces have at most `piece_bytes`. The buffers are made when they are needed.
  StagedUpload(at::Device device, int64_t piece_bytes);
  /// Waits until the buffers are free.
  ~StagedUpload();
  StagedUpload(const StagedUpload&) = delete;
  StagedUpload& operator=(const StagedUpload&) = delete;

  /// `fill(memory)` writes as many elements of `type` as the contiguous `target` of this device has; they go there,
  /// converted where its type is another one. On the CPU an equal type is written in place. The device's work on the
  /// target must be done before (synchronize).
  void put(const at::Tensor& target, at::ScalarType type, const std::function<void(void*)>& fill);

  /// Waits until all pieces are where they belong.
  void wait();

 private:
  struct Buffer {
    at::Tensor bytes;                    // undefined until it is needed
    std::optional<c10::Event> departed;  // what it held has been copied
  };

  at::Device device_;
  int64_t piece_bytes_;
  std::optional<c10::Stream> stream_;  // none: the host does not go on by itself
  std::vector<Buffer> buffers_;
  size_t next_ = 0;
};

}  // namespace dsft::device
