#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace dsft::device {

/// Memory of a GPU that other processes of the host can map. It is not the allocator's, whose memory has no name that
/// another process could open; memory figures count it all the same.
class ShareableMemory final {
 public:
  /// Throws kDevice where there is no room.
  ShareableMemory(int64_t num_bytes, int device);
  ~ShareableMemory();
  ShareableMemory(const ShareableMemory&) = delete;
  ShareableMemory& operator=(const ShareableMemory&) = delete;

  void* data() const { return data_; }
  /// What mappings are made by: bytes, as many for each; empty where CUDA shares no memory here.
  std::string handle() const;

  static constexpr int64_t kHandleBytes = 128;

 private:
  void* data_ = nullptr;
  int64_t num_bytes_;
  int device_;
};

/// Another process's ShareableMemory in this one's addresses.
class MappedMemory final {
 public:
  /// Null where the handle is of another host, or CUDA cannot map it.
  static std::unique_ptr<MappedMemory> map(const std::string& handle, int device);
  ~MappedMemory();
  MappedMemory(const MappedMemory&) = delete;
  MappedMemory& operator=(const MappedMemory&) = delete;

  const void* data() const { return data_; }

 private:
  MappedMemory(void* data, int device) : data_(data), device_(device) {}

  void* data_;
  int device_;
};

/// What this process has of it on a GPU.
int64_t shareable_bytes(int device);

}  // namespace dsft::device
