#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "io/file.h"

namespace dsft::report {

/// A file that a run appends records to and that never ends the run: what cannot be written now (a full disk, a network
/// file system that is away) waits in memory and is tried again with each record. Every record is on its way to the
/// disk when append() returns without a warning, so that a killed run keeps it.
class RecordFile {
 public:
  /// Makes the file ready for appending; throws Error where that fails, and is called again with the next record.
  using Open = std::function<io::FileDescriptor()>;
  using Warn = std::function<void(const std::string& text)>;

  /// `warn` hears of the first failure, and when what waited has been written.
  RecordFile(std::filesystem::path path, Open open, Warn warn);
  /// Tries a last time, and warns of what is lost.
  ~RecordFile();
  RecordFile(const RecordFile&) = delete;
  RecordFile& operator=(const RecordFile&) = delete;

  void append(std::string_view record);
  /// Bytes that wait in memory.
  size_t num_waiting() const { return waiting_.size(); }

 private:
  void write_waiting();

  std::filesystem::path path_;
  Open open_;
  Warn warn_;
  io::FileDescriptor file_;
  std::string waiting_;  ///< may begin inside a record, of which the rest is in the file already
  bool has_warned_ = false;
};

/// Renames the file of an earlier run, to <stem>-<n>.<extension>; gives the new path, or nothing where there was none.
/// Throws kCheckpoint.
std::optional<std::filesystem::path> set_aside(const std::filesystem::path& path);

}  // namespace dsft::report
