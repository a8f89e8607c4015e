#include "report/record_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace dsft::report {

RecordFile::RecordFile(std::filesystem::path path, Open open, Warn warn)
    : path_(std::move(path)), open_(std::move(open)), warn_(std::move(warn)) {}

RecordFile::~RecordFile() {
  if (waiting_.empty()) return;
  try {
    append("");
    if (!waiting_.empty()) warn_(concat("the last ", waiting_.size(), " bytes of ", path_.string(), " are lost"));
  } catch (const std::exception&) {
    // a destructor has nobody left to tell
  }
}

void RecordFile::append(std::string_view record) {
  waiting_ += record;
  try {
    write_waiting();
  } catch (const Error& error) {
    if (!has_warned_)
      warn_(concat(error.message(), " The run goes on; what belongs there is kept and tried again with each record."));
    has_warned_ = true;
    return;
  }
  if (has_warned_) warn_(concat(path_.string(), " can be written again; nothing of it is lost"));
  has_warned_ = false;
}

void RecordFile::write_waiting() {
  if (!file_.is_open()) file_ = open_();
  while (!waiting_.empty()) {
    const ssize_t count = ::write(file_.get(), waiting_.data(), waiting_.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(ErrorKind::kCheckpoint, "Cannot write ", path_.string(), ": ", std::strerror(errno), ".");
    // a short write is continued where it ended, also by a later call: the file stays a row of whole records
    waiting_.erase(0, static_cast<size_t>(count));
  }
}

std::optional<std::filesystem::path> set_aside(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  std::filesystem::path free_name;
  for (int number = 1; free_name.empty() || std::filesystem::exists(free_name); ++number)
    free_name = path.parent_path() / concat(path.stem().string(), "-", number, path.extension().string());
  std::error_code error;
  std::filesystem::rename(path, free_name, error);
  if (error)
    fail(ErrorKind::kCheckpoint, "Cannot rename ", path.string(), " of an earlier run: ", error.message(), ".");
  return free_name;
}

}  // namespace dsft::report
