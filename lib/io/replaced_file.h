#pragma once

#include <filesystem>
#include <string_view>

#include "io/file.h"

namespace dsft::io {

/// A file that is written piece by piece under a temporary name beside its own and takes its place in one step; without
/// commit() nothing is left behind.
class ReplacedFile {
 public:
  /// Throws kData where the folder cannot be written.
  explicit ReplacedFile(std::filesystem::path path);
  ~ReplacedFile();
  ReplacedFile(const ReplacedFile&) = delete;
  ReplacedFile& operator=(const ReplacedFile&) = delete;

  void write(std::string_view text);
  /// Makes the contents durable and visible. Throws kData for a full disk.
  void commit();

 private:
  std::filesystem::path path_, temporary_;
  FileDescriptor file_;
};

}  // namespace dsft::io
