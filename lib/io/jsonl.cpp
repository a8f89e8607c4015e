#include "io/jsonl.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "io/json.h"
#include "io/utf8.h"

namespace dsft::io {

namespace {

constexpr uint64_t kLargestLine = 1'000'000'000;
constexpr uint64_t kPiece = 1 << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

}  // namespace

JsonlReader::JsonlReader(const std::filesystem::path& path)
    : path_(path), file_(open_for_reading(path, ErrorKind::kData)), size_(file_size(file_, path, ErrorKind::kData)) {}

bool JsonlReader::fill() {
  const uint64_t at = buffer_offset_ + buffer_.size();
  if (at >= size_) return false;
  // what was read is dropped only here, so that a short line moves no bytes
  buffer_.erase(0, begin_);
  buffer_offset_ += begin_;
  begin_ = 0;
  const size_t kept = buffer_.size();
  const uint64_t count = std::min<uint64_t>(std::max<uint64_t>(kPiece, kept), size_ - at);
  buffer_.resize(kept + count);
  read_exactly(file_.get(), path_, at, count, buffer_.data() + kept, ErrorKind::kData);
  return true;
}

bool JsonlReader::next(JsonlLine& line) {
  while (true) {
    size_t searched = 0;
    size_t length = std::string::npos;
    while (true) {
      const size_t from = begin_ + searched;
      const void* newline =
          from < buffer_.size() ? std::memchr(buffer_.data() + from, '\n', buffer_.size() - from) : nullptr;
      if (newline != nullptr) {
        length = static_cast<size_t>(static_cast<const char*>(newline) - buffer_.data()) - begin_;
        break;
      }
      searched = buffer_.size() - begin_;
      if (searched > kLargestLine) {
        fail(ErrorKind::kData, path_.string(), ":", line_number_ + 1, ": the line at byte ", buffer_offset_ + begin_,
             " is longer than 1 GB.");
      }
      if (!fill()) break;
    }
    const bool is_terminated = length != std::string::npos;
    if (!is_terminated && begin_ >= buffer_.size()) return false;
    std::string_view text(buffer_.data() + begin_, is_terminated ? length : buffer_.size() - begin_);
    uint64_t offset = buffer_offset_ + begin_;
    begin_ += text.size() + (is_terminated ? 1 : 0);
    ++line_number_;
    if (offset == 0 && text.starts_with(kByteOrderMark)) {
      text.remove_prefix(kByteOrderMark.size());
      offset += kByteOrderMark.size();
    }
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (is_blank(text)) continue;
    const size_t invalid = find_invalid_utf8(text);
    if (invalid != std::string_view::npos) {
      fail(ErrorKind::kData, path_.string(), ":", line_number_, ": byte ", offset + invalid,
           " of the file is not valid UTF-8",
           is_terminated ? "." : "; the file ends in this line, so it may have been cut.");
    }
    line = {text, line_number_, offset, is_terminated};
    return true;
  }
}

nlohmann::ordered_json parse_jsonl_line(const JsonlLine& line, const std::filesystem::path& path) {
  const JsonLimits limits{.max_size_bytes = kLargestLine, .keeps_long_integers = true};
  try {
    auto row = parse_ordered_json(line.text, path.string(), ErrorKind::kData, limits, line.number);
    if (!row.is_object()) {
      fail(ErrorKind::kData, path.string(), ":", line.number, ": the line at byte ", line.offset, " is a JSON ",
           row.type_name(), "; each line must be one JSON object.");
    }
    return row;
  } catch (Error& error) {
    error.add_context(concat(
        "in the line at byte ", line.offset, " of ", path.string(),
        line.is_terminated ? ""
                           : "; the file ends inside this line: it was probably cut while it was written or copied"));
    throw;
  }
}

}  // namespace dsft::io
