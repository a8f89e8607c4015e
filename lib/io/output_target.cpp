#include "io/output_target.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <set>

namespace dsft::io {
namespace {

namespace fs = std::filesystem;

constexpr int kMostLinks = 40;  // Linux follows as many

/// Whether a path is an entry of /proc, as /dev/stdout's link is: its text names no file that could be replaced.
bool is_in_proc(const fs::path& path) {
  std::error_code error;
  const fs::path folder = fs::canonical(path.parent_path(), error);
  return !error && folder.string().starts_with("/proc/");
}

bool is_same_file(const fs::path& one, const fs::path& other) {
  std::error_code error;
  return fs::equivalent(one, other, error) && !error;
}

/// What a model's or an adapter's folder is read for; results of earlier commands may lie beside it.
bool is_model_file(const fs::path& path) {
  static const std::set<std::string> kExtensions = {".json", ".safetensors", ".jinja", ".txt", ".model"};
  return kExtensions.contains(path.extension().string());
}

bool holds_file(const fs::path& folder, const fs::path& file) {
  std::error_code error;
  fs::recursive_directory_iterator entries(folder, fs::directory_options::skip_permission_denied, error);
  for (; !error && entries != fs::recursive_directory_iterator(); entries.increment(error)) {
    if (is_model_file(entries->path()) && is_same_file(file, entries->path())) return true;
  }
  return false;
}

}  // namespace

OutputTarget resolve_output(const fs::path& path, ErrorKind kind) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::exists(status) && !fs::is_regular_file(status)) return {path, /*is_replaced=*/false};
  fs::path target = path;
  for (int link = 0; fs::is_symlink(fs::symlink_status(target, error)); ++link) {
    if (is_in_proc(target)) return {path, /*is_replaced=*/false};
    if (link == kMostLinks) fail(kind, "Cannot write ", path.string(), ": too many links.");
    const fs::path next = fs::read_symlink(target, error);
    if (error) fail(kind, "Cannot write ", path.string(), ": ", error.message(), ".");
    target = target.parent_path() / next;
  }
  const fs::path folder = target.has_parent_path() ? target.parent_path() : fs::path(".");
  if (!fs::is_directory(folder, error))
    fail(kind, "Cannot write ", path.string(), ": there is no folder ", folder.string(), ".");
  return {target, /*is_replaced=*/true};
}

FileDescriptor open_in_place(const OutputTarget& target, ErrorKind kind) {
  FileDescriptor file(::open(target.path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!file.is_open()) fail(kind, "Cannot write ", target.path.string(), ": ", std::strerror(errno), ".");
  return file;
}

void require_no_input(const std::string& option, const fs::path& output, const std::vector<fs::path>& inputs) {
  for (const fs::path& input : inputs) {
    if (input.empty()) continue;
    const bool is_inside = holds_file(input, output);
    if (!is_inside && !is_same_file(output, input)) continue;
    fail(ErrorKind::kUsage, option, " ", output.string(), " would overwrite ", is_inside ? "a file of " : "",
         input.string(), ", which this command reads; name another file");
  }
}

}  // namespace dsft::io
