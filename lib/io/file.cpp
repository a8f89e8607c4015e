#include "io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "io/output_target.h"

namespace dsft::io {

namespace {

constexpr uint64_t kLargestTransfer = uint64_t{1} << 30;  // Linux moves at most 2^31 - 4096 bytes in one call

[[noreturn]] void fail_write(const std::filesystem::path& path, int error, ErrorKind kind) {
  if (error == ENOSPC || error == EDQUOT) {
    fail(kind, "Cannot write ", path.string(), ": ", std::strerror(error),
         ". Free some space, or choose a folder on another disk.");
  }
  fail(kind, "Cannot write ", path.string(), ": ", std::strerror(error), ".");
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    close();
    descriptor_ = other.release();
  }
  return *this;
}

int FileDescriptor::release() {
  const int descriptor = descriptor_;
  descriptor_ = -1;
  return descriptor;
}

void FileDescriptor::close() {
  if (descriptor_ >= 0) ::close(release());
}

FileDescriptor open_for_reading(const std::filesystem::path& path, ErrorKind kind) {
  // O_NONBLOCK keeps a named pipe from blocking the open; it has no effect on regular files.
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.is_open()) fail(kind, "Cannot open ", path.string(), ": ", std::strerror(errno), ".");
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail(kind, "Cannot read ", path.string(), ": ", std::strerror(errno), ".");
  if (!S_ISREG(status.st_mode)) fail(kind, path.string(), " is not a regular file.");
  return file;
}

FileDescriptor open_for_writing(const std::filesystem::path& path, ErrorKind kind) {
  FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file.is_open()) fail_write(path, errno, kind);
  return file;
}

FileDescriptor open_for_appending(const std::filesystem::path& path, ErrorKind kind) {
  FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!file.is_open()) fail_write(path, errno, kind);
  return file;
}

uint64_t file_size(const FileDescriptor& file, const std::filesystem::path& path, ErrorKind kind) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail(kind, "Cannot read ", path.string(), ": ", std::strerror(errno), ".");
  return static_cast<uint64_t>(status.st_size);
}

void read_exactly(int descriptor, const std::filesystem::path& path, uint64_t offset, uint64_t size, void* destination,
                  ErrorKind kind) {
  auto* bytes = static_cast<char*>(destination);
  while (size > 0) {
    const ssize_t count = ::pread(descriptor, bytes, std::min(size, kLargestTransfer), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(kind, "Cannot read ", path.string(), " at byte ", offset, ": ", std::strerror(errno), ".");
    if (count == 0) {
      fail(kind, path.string(), " ends at byte ", offset, ", but ", size,
           " more bytes are needed: the file was cut. Copy or download it again.");
    }
    bytes += count;
    offset += static_cast<uint64_t>(count);
    size -= static_cast<uint64_t>(count);
  }
}

void write_all(int descriptor, const std::filesystem::path& path, const void* data, uint64_t size, ErrorKind kind) {
  const auto* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t count = ::write(descriptor, bytes, std::min(size, kLargestTransfer));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_write(path, errno, kind);
    bytes += count;
    size -= static_cast<uint64_t>(count);
  }
}

void sync_file(int descriptor, const std::filesystem::path& path, ErrorKind kind) {
  int result = 0;
  do {
    result = ::fsync(descriptor);
  } while (result != 0 && errno == EINTR);
  if (result != 0) fail_write(path, errno, kind);
}

void sync_directory(const std::filesystem::path& directory, ErrorKind kind) {
  const std::filesystem::path target = directory.empty() ? std::filesystem::path(".") : directory;
  FileDescriptor file(::open(target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!file.is_open()) fail(kind, "Cannot open the folder ", target.string(), ": ", std::strerror(errno), ".");
  // Some network file systems know no fsync of folders; what they promise is all there is.
  if (::fsync(file.get()) != 0 && errno != EINVAL && errno != ENOTSUP) fail_write(target, errno, kind);
}

std::string read_text_file(const std::filesystem::path& path, uint64_t max_size, ErrorKind kind) {
  const FileDescriptor file = open_for_reading(path, kind);
  const uint64_t size = file_size(file, path, kind);
  if (size > max_size)
    fail(kind, path.string(), " has ", size, " bytes; at most ", max_size, " are read from such a file.");
  std::string content(size, '\0');
  read_exactly(file.get(), path, 0, size, content.data(), kind);
  return content;
}

void write_text_file(const std::filesystem::path& path, const std::string& content, ErrorKind kind) {
  const FileDescriptor file = open_for_writing(path, kind);
  write_all(file.get(), path, content.data(), content.size(), kind);
  sync_file(file.get(), path, kind);
}

void replace_text_file(const std::filesystem::path& path, const std::string& content, ErrorKind kind) {
  const OutputTarget target = resolve_output(path, kind);
  if (!target.is_replaced) {
    const FileDescriptor file = open_in_place(target, kind);
    write_all(file.get(), target.path, content.data(), content.size(), kind);
    return;
  }
  const std::filesystem::path temporary = target.path.string() + ".tmp";
  std::error_code error;
  try {
    write_text_file(temporary, content, kind);
    std::filesystem::rename(temporary, target.path, error);
    if (error)
      fail(kind, "Cannot rename ", temporary.string(), " to ", target.path.string(), ": ", error.message(), ".");
  } catch (...) {
    std::filesystem::remove(temporary, error);
    throw;
  }
  sync_directory(target.path.parent_path(), kind);
}

void copy_file_contents(const std::filesystem::path& from, const std::filesystem::path& to) {
  const FileDescriptor source = open_for_reading(from);
  const uint64_t size = file_size(source, from);
  const FileDescriptor target = open_for_writing(to);
  std::vector<char> buffer(std::min<uint64_t>(size, 4 << 20));
  for (uint64_t offset = 0; offset < size; offset += buffer.size()) {
    const uint64_t count = std::min<uint64_t>(buffer.size(), size - offset);
    read_exactly(source.get(), from, offset, count, buffer.data());
    write_all(target.get(), to, buffer.data(), count);
  }
  sync_file(target.get(), to);
}

}  // namespace dsft::io
