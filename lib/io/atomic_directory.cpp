#include "io/atomic_directory.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>

#include <cstdint>

#include "base/error.h"
#include "io/file.h"

namespace dsft::io {

namespace fs = std::filesystem;

namespace {

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;
constexpr double kFreeSpaceFactor = 1.1;

fs::path without_trailing_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

void rename_or_fail(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error)
    fail(ErrorKind::kCheckpoint, "Cannot rename ", from.string(), " to ", to.string(), ": ", error.message(), ".");
}

// Makes "<base>.tmp", or "<base>.tmp-<n>" where something has that name.
fs::path create_unused(const fs::path& base) {
  std::error_code error;
  if (base.has_parent_path()) fs::create_directories(base.parent_path(), error);
  fs::path path = base.string() + ".tmp";
  for (int number = 1; !error && !fs::create_directory(path, error); ++number) {
    if (error == std::errc::file_exists) error.clear();
    if (!error) path = concat(base.string(), ".tmp-", number);
  }
  if (error) fail(ErrorKind::kCheckpoint, "Cannot create the folder ", path.string(), ": ", error.message(), ".");
  return path;
}

bool exchange(const fs::path& a, const fs::path& b) {
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
}

}  // namespace

AtomicDirectory::AtomicDirectory(const fs::path& final_path)
    : final_(without_trailing_slash(final_path)), temporary_(create_unused(final_)) {}

AtomicDirectory::~AtomicDirectory() {
  std::error_code ignored;
  if (!is_committed_) fs::remove_all(temporary_, ignored);
}

void AtomicDirectory::commit() {
  sync_tree(temporary_);
  fs::path replaced;
  if (fs::exists(final_)) {
    replaced = temporary_;
    if (!exchange(temporary_, final_)) {
      // no exchange on this file system: for a moment neither has the name
      replaced = create_unused(final_);
      rename_or_fail(final_, replaced);
      std::error_code ignored;
      try {
        rename_or_fail(temporary_, final_);
      } catch (...) {
        fs::rename(replaced, final_, ignored);
        throw;
      }
    }
  } else {
    rename_or_fail(temporary_, final_);
  }
  is_committed_ = true;
  sync_directory(final_.parent_path());
  std::error_code ignored;
  if (!replaced.empty()) fs::remove_all(replaced, ignored);
}

void sync_tree(const fs::path& directory) {
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.is_directory()) {
      sync_tree(entry.path());
    } else if (entry.is_regular_file()) {
      sync_file(open_for_reading(entry.path()).get(), entry.path());
    }
  }
  sync_directory(directory);
}

void require_free_space(const fs::path& directory, uint64_t size_bytes) {
  struct statvfs status {};
  if (::statvfs(directory.c_str(), &status) != 0 || status.f_blocks == 0) return;
  const double free_bytes = static_cast<double>(status.f_bavail) * static_cast<double>(status.f_frsize);
  const double needed_bytes = kFreeSpaceFactor * static_cast<double>(size_bytes);
  if (free_bytes >= needed_bytes) return;
  fail(ErrorKind::kCheckpoint, "There is no space for ", needed_bytes / kGib, " GiB in ", directory.string(), ": ",
       free_bytes / kGib, " GiB are free. Free some, or choose a folder on another disk.");
}

}  // namespace dsft::io
