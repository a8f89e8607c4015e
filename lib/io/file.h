#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/error.h"

namespace dsft::io {

/// An open file descriptor that is closed when it goes out of scope.
class FileDescriptor {
 public:
  explicit FileDescriptor(int descriptor = -1) : descriptor_(descriptor) {}
  FileDescriptor(FileDescriptor&& other) noexcept : descriptor_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor() { close(); }

  int get() const { return descriptor_; }
  bool is_open() const { return descriptor_ >= 0; }
  int release();
  void close();

 private:
  int descriptor_;
};

/// Opens a regular file for reading. Throws `kind` with the reason of the system (missing, no permission, a directory).
FileDescriptor open_for_reading(const std::filesystem::path& path, ErrorKind kind = ErrorKind::kCheckpoint);

/// Creates or empties a file for writing.
FileDescriptor open_for_writing(const std::filesystem::path& path, ErrorKind kind = ErrorKind::kCheckpoint);

/// Opens a file for writing at its end; makes it where it is not there.
FileDescriptor open_for_appending(const std::filesystem::path& path, ErrorKind kind = ErrorKind::kCheckpoint);

/// Size in bytes of an open file.
uint64_t file_size(const FileDescriptor& file, const std::filesystem::path& path,
                   ErrorKind kind = ErrorKind::kCheckpoint);

/// Reads `size` bytes from `offset` on by pread; short reads and interrupts are continued. A file that ends before
/// throws `kind`.
void read_exactly(int descriptor, const std::filesystem::path& path, uint64_t offset, uint64_t size, void* destination,
                  ErrorKind kind = ErrorKind::kCheckpoint);

/// Writes all bytes; short writes and interrupts are continued. A full disk or an I/O error throws `kind`, naming the
/// file.
void write_all(int descriptor, const std::filesystem::path& path, const void* data, uint64_t size,
               ErrorKind kind = ErrorKind::kCheckpoint);

/// Makes the contents of a file durable (fsync). Throws `kind`: some file systems tell only here that the disk is full.
void sync_file(int descriptor, const std::filesystem::path& path, ErrorKind kind = ErrorKind::kCheckpoint);

/// Makes the entries of a folder durable (fsync of the folder).
void sync_directory(const std::filesystem::path& directory, ErrorKind kind = ErrorKind::kCheckpoint);

/// The whole contents of a file of at most `max_size` bytes.
std::string read_text_file(const std::filesystem::path& path, uint64_t max_size,
                           ErrorKind kind = ErrorKind::kCheckpoint);

/// Writes a new file and makes it durable; no temporary name (for files inside an AtomicDirectory).
void write_text_file(const std::filesystem::path& path, const std::string& content,
                     ErrorKind kind = ErrorKind::kCheckpoint);

/// Replaces a file in one step: a temporary neighbour, fsync, rename, fsync of the folder. A link stays one, and a
/// device or a pipe is written as it is (resolve_output).
void replace_text_file(const std::filesystem::path& path, const std::string& content,
                       ErrorKind kind = ErrorKind::kCheckpoint);

/// Copies the bytes of a file (links are followed) and makes the copy durable.
void copy_file_contents(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace dsft::io
