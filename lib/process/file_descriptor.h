#pragma once

#include <utility>

namespace dsft::process {

/// Owns a file descriptor.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int descriptor) : descriptor_(descriptor) {}
  ~FileDescriptor() { close(); }
  FileDescriptor(FileDescriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    close();
    descriptor_ = std::exchange(other.descriptor_, -1);
    return *this;
  }

  /// The descriptor, or -1.
  int get() const { return descriptor_; }
  void close();

 private:
  int descriptor_ = -1;
};

/// Both ends of a pipe, closed on exec.
struct PipeEnds {
  FileDescriptor reader;
  FileDescriptor writer;
};

PipeEnds open_pipe();

}  // namespace dsft::process
