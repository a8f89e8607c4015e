#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "io/safetensors_header.h"

namespace dsft::io {

namespace {

constexpr uint64_t kLengthSize = 8;

uint64_t decode_length(const std::array<unsigned char, kLengthSize>& bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < kLengthSize; ++i) value |= uint64_t{bytes[i]} << (8 * i);
  return value;
}

std::string encode_length(uint64_t value) {
  std::string bytes(kLengthSize, '\0');
  for (size_t i = 0; i < kLengthSize; ++i) bytes[i] = static_cast<char>(value >> (8 * i));
  return bytes;
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile result;
  result.path_ = path;
  result.file_ = open_for_reading(path);
  const uint64_t size = file_size(result.file_, path);
  if (size < kLengthSize) {
    fail(ErrorKind::kCheckpoint, path.string(), " has ", size,
         " bytes: too few for a safetensors file. Copy or download it again.");
  }
  std::array<unsigned char, kLengthSize> length_bytes{};
  read_exactly(result.file_.get(), path, 0, kLengthSize, length_bytes.data());
  const uint64_t length = decode_length(length_bytes);
  if (length > kMaxSafetensorsHeader) {
    fail(ErrorKind::kCheckpoint, path.string(), ": the header claims ", length, " bytes; the format allows ",
         kMaxSafetensorsHeader, ". The file is damaged or no safetensors file.");
  }
  if (length > size - kLengthSize) {
    fail(ErrorKind::kCheckpoint, path.string(), ": the header claims ", length, " bytes, but the file has ", size,
         ": it was cut. Copy or download it again.");
  }
  std::string text(length, '\0');
  read_exactly(result.file_.get(), path, kLengthSize, length, text.data());
  const uint64_t data_begin = kLengthSize + length;
  SafetensorsHeader header = parse_safetensors_header(text, size - data_begin, path);
  result.metadata_ = std::move(header.metadata);
  result.tensors_ = std::move(header.tensors);
  for (TensorInfo& tensor : result.tensors_) {
    tensor.begin += data_begin;
    tensor.end += data_begin;
  }
  auto& order = result.by_name_;
  const auto& tensors = result.tensors_;
  order.resize(tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return tensors[a].name < tensors[b].name; });
  const auto twice = std::adjacent_find(order.begin(), order.end(),
                                        [&](uint32_t a, uint32_t b) { return tensors[a].name == tensors[b].name; });
  if (twice != order.end()) {
    fail(ErrorKind::kCheckpoint, path.string(), ": the tensor ", tensors[*twice].name,
         " is listed twice. The file is damaged.");
  }
  return result;
}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto at = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                   [&](uint32_t i, std::string_view wanted) { return tensors_[i].name < wanted; });
  return at != by_name_.end() && tensors_[*at].name == name ? &tensors_[*at] : nullptr;
}

void SafetensorsFile::read(const TensorInfo& tensor, void* destination) const {
  read(tensor, 0, tensor.end - tensor.begin, destination);
}

void SafetensorsFile::read(const TensorInfo& tensor, uint64_t offset, uint64_t size, void* destination) const {
  DSFT_CHECK(offset <= tensor.end - tensor.begin && size <= tensor.end - tensor.begin - offset, "read past the end of ",
             tensor.name);
  try {
    read_exactly(file_.get(), path_, tensor.begin + offset, size, destination);
  } catch (Error& error) {
    throw error.add_context("while reading the tensor " + tensor.name);
  }
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorInfo> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : path_(path) {
  for (TensorInfo& tensor : tensors) {
    tensor.begin = expected_;
    expected_ += static_cast<uint64_t>(tensor.num_elements() * dtype_size(tensor.dtype));
    tensor.end = expected_;
  }
  const std::string header = format_safetensors_header(tensors, metadata);
  if (header.size() > kMaxSafetensorsHeader)
    fail(ErrorKind::kCheckpoint, "The header of ", path.string(), " would be larger than the format allows.");
  file_ = open_for_writing(path);
  const std::string start = encode_length(header.size()) + header;
  write_all(file_.get(), path_, start.data(), start.size());
}

void SafetensorsWriter::write(const void* data, uint64_t size) {
  DSFT_CHECK(size <= expected_ - written_, "more bytes are written to ", path_.string(), " than were declared");
  write_all(file_.get(), path_, data, size);
  written_ += size;
}

void SafetensorsWriter::finish() {
  DSFT_CHECK(written_ == expected_, written_, " of ", expected_, " declared bytes were written to ", path_.string());
  sync_file(file_.get(), path_);
  file_.close();
}

}  // namespace dsft::io
