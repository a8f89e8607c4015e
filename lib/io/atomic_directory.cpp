#include "io/atomic_directory.h"

#include "base/error.h"
#include "io/file.h"

namespace dsft::io {

namespace fs = std::filesystem;

namespace {

fs::path without_trailing_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

void rename_or_fail(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error)
    fail(ErrorKind::kCheckpoint, "Cannot rename ", from.string(), " to ", to.string(), ": ", error.message(), ".");
}

}  // namespace

AtomicDirectory::AtomicDirectory(const fs::path& final_path)
    : final_(without_trailing_slash(final_path)), temporary_(final_.string() + ".tmp") {
  std::error_code error;
  fs::remove_all(temporary_, error);
  if (!error) fs::create_directories(temporary_, error);
  if (error) fail(ErrorKind::kCheckpoint, "Cannot create the folder ", temporary_.string(), ": ", error.message(), ".");
}

AtomicDirectory::~AtomicDirectory() {
  std::error_code ignored;
  if (!is_committed_) fs::remove_all(temporary_, ignored);
}

void AtomicDirectory::commit() {
  sync_tree(temporary_);
  const fs::path replaced = final_.string() + ".old.tmp";
  std::error_code error;
  fs::remove_all(replaced, error);
  const bool replaces = fs::exists(final_);
  if (replaces) rename_or_fail(final_, replaced);
  try {
    rename_or_fail(temporary_, final_);
  } catch (...) {
    if (replaces) fs::rename(replaced, final_, error);
    throw;
  }
  is_committed_ = true;
  sync_directory(final_.parent_path());
  fs::remove_all(replaced, error);
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

}  // namespace dsft::io
