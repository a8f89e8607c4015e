#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/file.h"

namespace dsft::io {

/// Element types of safetensors that dsft knows (the format's types of less than a byte are refused by name).
enum class DType {
  kBool,
  kU8,
  kI8,
  kI16,
  kI32,
  kI64,
  kF8E4M3,
  kF8E5M2,
  kF16,
  kBF16,
  kF32,
  kF64,
  kU16,
  kU32,
  kU64,
  kF8E8M0
};

int64_t dtype_size(DType dtype);           ///< bytes of one element
std::string_view dtype_name(DType dtype);  ///< "BF16"
DType parse_dtype(std::string_view name);  ///< throws kCheckpoint for a name that the format does not have

std::string shape_text(const std::vector<int64_t>& shape);  ///< "[2, 3]"

/// Where a tensor lies in a file.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  uint64_t begin = 0;  ///< offset from the start of the file
  uint64_t end = 0;
  int64_t num_elements() const;
};

/// An open safetensors file. The header is checked as the format's own reader does (size <= 100 MB, UTF-8, no duplicate
/// names, offsets contiguous from 0 to the end of the file, sizes equal shape x dtype without overflow) before anything
/// is allocated for data. Reads are by pread, so that a file cut later gives an error and no signal.
class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::filesystem::path& path);
  SafetensorsFile(SafetensorsFile&&) noexcept = default;
  SafetensorsFile& operator=(SafetensorsFile&&) noexcept = default;
  ~SafetensorsFile() = default;

  const std::filesystem::path& path() const { return path_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }  ///< in the order of their offsets
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const TensorInfo* find(std::string_view name) const;  ///< null where there is none

  /// Reads the bytes of a tensor, or `size` of them from `offset` on, into `destination`.
  void read(const TensorInfo& tensor, void* destination) const;
  void read(const TensorInfo& tensor, uint64_t offset, uint64_t size, void* destination) const;

 private:
  SafetensorsFile() = default;
  std::filesystem::path path_;
  std::vector<TensorInfo> tensors_;
  std::vector<uint32_t> by_name_;  // positions in tensors_, sorted by name
  std::map<std::string, std::string> metadata_;
  FileDescriptor file_;
};

/// Writes a safetensors file: all tensors are declared first (names, types, shapes), their bytes follow in the order of
/// declaration, in pieces of any size. finish() fsyncs and checks that every declared byte was written. Errors of the
/// disk (full, I/O) throw kCheckpoint naming the file.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorInfo> tensors,
                    const std::map<std::string, std::string>& metadata);
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  void write(const void* data, uint64_t size);
  void finish();

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
  uint64_t expected_ = 0;
  uint64_t written_ = 0;
};

/// The weights of a checkpoint folder: model.safetensors, or the files that model.safetensors.index.json names (plain
/// file names only; every name of the index present in its file). Tensors by name, with the file that holds each.
class SafetensorsSet {
 public:
  /// `stem` is "model" or "adapter_model". Throws kCheckpoint.
  static SafetensorsSet open(const std::filesystem::path& directory, const std::string& stem = "model");

  std::vector<std::string> names() const;               ///< sorted
  const TensorInfo* find(std::string_view name) const;  ///< null where there is none
  const SafetensorsFile& file_of(const TensorInfo& tensor) const;
  const std::vector<SafetensorsFile>& files() const { return files_; }

 private:
  std::vector<SafetensorsFile> files_;
  std::map<std::string, std::pair<size_t, const TensorInfo*>, std::less<>> index_;
};

}  // namespace dsft::io
