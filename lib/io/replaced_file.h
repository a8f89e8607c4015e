#pragma once

#include <filesystem>
#include <string_view>

#include "io/file.h"
#include "io/output_target.h"

namespace dsft::io {

/// A file that is written piece by piece under a temporary name beside its own and takes its place in one step; without
/// commit() nothing is left behind. The file that a link leads to is replaced, not the link; a device or a pipe is
/// written at once (resolve_output).
class ReplacedFile {
 public:
  /// Throws kData where the folder cannot be written.
  explicit ReplacedFile(const std::filesystem::path& path);
  ~ReplacedFile();
  ReplacedFile(const ReplacedFile&) = delete;
  ReplacedFile& operator=(const ReplacedFile&) = delete;

  void write(std::string_view text);
  /// Makes the contents durable and visible. Throws kData for a full disk.
  void commit();

 private:
  OutputTarget target_;
  std::filesystem::path written_;  ///< the temporary name, or the device
  FileDescriptor file_;
};

}  // namespace dsft::io
