#pragma once

#include <filesystem>

namespace dsft::io {

/// A folder that appears under its final name whole or not at all: files are written into "<name>.tmp"; commit() makes
/// all of them durable, renames the folder (an older one of that name is replaced) and makes the rename durable.
/// Without commit(), as after an error, the temporary folder is deleted.
class AtomicDirectory {
 public:
  /// Creates the temporary folder (and its parents); what an earlier, killed process left there is deleted. Throws
  /// kCheckpoint.
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

}  // namespace dsft::io
