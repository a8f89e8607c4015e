#include "io/safetensors_header.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/utf8.h"

namespace dsft::io {

namespace {

constexpr size_t kEntryOverhead = 64;  // of an entry of metadata besides its text

/// Reads a header from parse events: {"__metadata__": {string: string}, name: {"dtype": ..., "shape": [...],
/// "data_offsets": [...]}}.
class HeaderReader {
 public:
  HeaderReader(const std::filesystem::path& path, SafetensorsHeader& header) : path_(path), header_(header) {}

  bool null() { return unexpected("null"); }
  bool boolean(bool) { return unexpected("a boolean"); }
  bool number_integer(int64_t) { return unexpected("a negative number"); }
  bool number_float(double, const std::string& text) { return unexpected("the number " + text.substr(0, 40)); }
  bool binary(nlohmann::json::binary_t&) { return unexpected("binary data"); }

  bool number_unsigned(uint64_t value) {
    if (place_ == Place::kShape) {
      if (value > static_cast<uint64_t>(INT64_MAX)) reject("has a dimension of ", value);
      if (tensor_.shape.size() == kMaxSafetensorsDimensions)
        reject("has more than ", kMaxSafetensorsDimensions, " dimensions");
      tensor_.shape.push_back(static_cast<int64_t>(value));
    } else if (place_ == Place::kOffsets) {
      if (num_offsets_ == 2) reject("has more than two data_offsets");
      (num_offsets_++ == 0 ? tensor_.begin : tensor_.end) = value;
    } else {
      unexpected("a number");
    }
    return true;
  }

  bool string(std::string& value) {
    if (place_ == Place::kMetadata) {
      metadata_size_ += kEntryOverhead + key_.size() + value.size();
      if (metadata_size_ > kMaxSafetensorsMetadata)
        reject_file("__metadata__ is larger than ", kMaxSafetensorsMetadata >> 20, " MB");
      if (!header_.metadata.emplace(key_, value).second) reject_file("__metadata__ has the key \"", key_, "\" twice");
    } else if (place_ == Place::kTensor && key_ == "dtype") {
      tensor_.dtype = parse_dtype_here(value);
    } else {
      unexpected("a string");
    }
    return true;
  }

  bool key(std::string& name) {
    key_ = std::move(name);
    if (place_ == Place::kTensor) {
      const unsigned field = key_ == "dtype" ? 1 : key_ == "shape" ? 2 : key_ == "data_offsets" ? 4 : 0;
      if (field == 0) reject("has the field \"", key_.substr(0, 80), "\", which the format does not know");
      if (fields_ & field) reject("has the field \"", key_, "\" twice");
      fields_ |= field;
    }
    return true;
  }

  bool start_object(size_t) {
    if (place_ == Place::kStart) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop && key_ == "__metadata__") {
      if (has_metadata_) reject_file("__metadata__ is there twice");
      has_metadata_ = true;
      place_ = Place::kMetadata;
    } else if (place_ == Place::kTop) {
      tensor_ = {};
      tensor_.name = key_;
      fields_ = 0;
      num_offsets_ = 0;
      place_ = Place::kTensor;
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool start_array(size_t) {
    if (place_ != Place::kTensor || key_ == "dtype") unexpected("a list");
    place_ = key_ == "shape" ? Place::kShape : Place::kOffsets;
    return true;
  }

  bool end_array() {
    place_ = Place::kTensor;
    return true;
  }

  bool end_object() {
    if (place_ == Place::kTensor) {
      if (fields_ != 7) reject("lacks dtype, shape or data_offsets");
      if (num_offsets_ != 2) reject("has ", num_offsets_, " data_offsets in place of 2");
      if (header_.tensors.size() == kMaxSafetensorsEntries)
        reject_file("it lists more than ", kMaxSafetensorsEntries, " tensors");
      header_.tensors.push_back(std::move(tensor_));
    }
    place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) {
    reject_file("it is not valid JSON at byte ", position + 7, " of the file");
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kShape, kOffsets, kEnd };

  template <typename... Parts>
  [[noreturn]] void reject(const Parts&... parts) const {
    fail(ErrorKind::kCheckpoint, path_.string(), ": the tensor ", tensor_.name.substr(0, 200), " ", parts...,
         ". The file is damaged or no safetensors file.");
  }

  template <typename... Parts>
  [[noreturn]] void reject_file(const Parts&... parts) const {
    fail(ErrorKind::kCheckpoint, path_.string(), ": the header cannot be used: ", parts...,
         ". The file is damaged or no safetensors file.");
  }

  bool unexpected(const std::string& what) const {
    if (place_ == Place::kMetadata)
      reject_file("__metadata__ may hold strings only, but \"", key_.substr(0, 80), "\" is ", what);
    if (place_ == Place::kStart || place_ == Place::kTop) reject_file("it has ", what, " where an object is expected");
    reject("has ", what, " in ", key_.substr(0, 80));
  }

  DType parse_dtype_here(const std::string& name) const {
    try {
      return parse_dtype(name);
    } catch (Error& error) {
      throw error.add_context(concat("in the tensor ", tensor_.name.substr(0, 200), " of ", path_.string()));
    }
  }

  const std::filesystem::path& path_;
  SafetensorsHeader& header_;
  Place place_ = Place::kStart;
  std::string key_;
  TensorInfo tensor_;
  unsigned fields_ = 0;
  int num_offsets_ = 0;
  size_t metadata_size_ = 0;
  bool has_metadata_ = false;
};

void check_layout(const SafetensorsHeader& header, uint64_t data_size, const std::filesystem::path& path) {
  uint64_t at = 0;
  for (const TensorInfo& tensor : header.tensors) {
    if (tensor.begin != at || tensor.end < tensor.begin) {
      fail(ErrorKind::kCheckpoint, path.string(), ": the data of ", tensor.name, " lie at ", tensor.begin, "..",
           tensor.end, " of the data, but byte ", at,
           " is the next free one: tensors overlap or leave a hole. The file is damaged.");
    }
    uint64_t size = static_cast<uint64_t>(dtype_size(tensor.dtype));
    for (int64_t dimension : tensor.shape) {
      if (__builtin_mul_overflow(size, static_cast<uint64_t>(dimension), &size) ||
          size > static_cast<uint64_t>(INT64_MAX)) {
        fail(ErrorKind::kCheckpoint, path.string(), ": the size of ", tensor.name,
             " overflows 64 bits. The file is damaged.");
      }
    }
    if (size != tensor.end - tensor.begin) {
      fail(ErrorKind::kCheckpoint, path.string(), ": ", tensor.name, " has ", tensor.end - tensor.begin,
           " bytes, but its shape and type ", dtype_name(tensor.dtype), " need ", size, ". The file is damaged.");
    }
    at = tensor.end;
  }
  if (at != data_size) {
    fail(ErrorKind::kCheckpoint, path.string(), ": the header describes ", at, " bytes of data, but the file holds ",
         data_size, at > data_size ? ": it was cut. Copy or download it again." : ": something was appended to it.");
  }
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view text, uint64_t data_size,
                                           const std::filesystem::path& path) {
  const size_t invalid = find_invalid_utf8(text);
  if (invalid != std::string_view::npos) {
    fail(ErrorKind::kCheckpoint, path.string(), ": byte ", invalid + 8,
         " of the header is not valid UTF-8. The file is damaged or no safetensors file.");
  }
  // A cheap look before anything is allocated per tensor: each entry opens one object.
  if (static_cast<size_t>(std::count(text.begin(), text.end(), '{')) > kMaxSafetensorsEntries + 2) {
    fail(ErrorKind::kCheckpoint, path.string(), ": the header lists more than ", kMaxSafetensorsEntries, " tensors.");
  }
  SafetensorsHeader header;
  HeaderReader reader(path, header);
  nlohmann::json::sax_parse(text, &reader);
  // Empty tensors share their offset with the next one, so the end decides between equal beginnings.
  std::sort(header.tensors.begin(), header.tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  check_layout(header, data_size, path);
  return header;
}

std::string format_safetensors_header(const std::vector<TensorInfo>& tensors,
                                      const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::string text = header.dump();
  text.pop_back();
  for (const TensorInfo& tensor : tensors) {
    nlohmann::ordered_json entry;
    entry["dtype"] = dtype_name(tensor.dtype);
    entry["shape"] = tensor.shape;
    entry["data_offsets"] = {tensor.begin, tensor.end};
    if (text.size() > 1) text += ',';
    text += nlohmann::ordered_json(tensor.name).dump() + ":" + entry.dump();
  }
  text += '}';
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

}  // namespace dsft::io
