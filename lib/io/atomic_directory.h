#pragma once

#include <filesystem>

namespace dsft::io {

/// A folder that appears under its final name whole or not at all: files are written into "<name>.tmp" (or
/// "<name>.tmp-<n>" where that is taken: what lies there belongs to somebody else); commit() makes all of them durable,
/// gives the folder its name and makes that durable. A folder that had the name before is exchanged in one step where
/// the file system can, and deleted. Without commit(), as after an error, the temporary folder is deleted.
class AtomicDirectory {
 public:
  /// Creates the temporary folder (and its parents). Throws kCheckpoint.
  explicit AtomicDirectory(const std::filesystem::path& final_path);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  const std::filesystem::path& path() const { return temporary_; }
  const std::filesystem::path& final_path() const { return final_; }

  void commit();

 private:
  std::filesystem::path final_;
  std::filesystem::path temporary_;
  bool is_committed_ = false;
};

/// fsyncs every file and folder below a folder, and the folder.
void sync_tree(const std::filesystem::path& directory);

/// Throws kCheckpoint where the file system of a folder has fewer free bytes than `size_bytes` and a tenth more. One
/// that does not say how many it has passes.
void require_free_space(const std::filesystem::path& directory, uint64_t size_bytes);

}  // namespace dsft::io
