#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "io/file.h"

namespace dsft::io {

/// One non-empty line of a JSONL file, without its line end.
struct JsonlLine {
  std::string_view text;      ///< valid until the next call on the reader
  int64_t number = 0;         ///< counted from 1, empty lines included
  uint64_t offset = 0;        ///< of its first byte in the file
  bool is_terminated = true;  ///< false: the file ends without a newline after it
};

/// Reads a JSONL file line by line in constant memory. Lines end in LF or CRLF; a byte order mark at the start and
/// lines of white space alone are skipped; a line of more than 1 GB or with invalid UTF-8 throws kData with its number
/// and byte offset.
class JsonlReader {
 public:
  explicit JsonlReader(const std::filesystem::path& path);

  /// Goes to the next non-empty line; false at the end of the file.
  bool next(JsonlLine& line);

  const std::filesystem::path& path() const { return path_; }

 private:
  bool fill();

  std::filesystem::path path_;
  FileDescriptor file_;
  uint64_t size_ = 0;
  std::string buffer_;
  size_t begin_ = 0;            // first unread byte in buffer_
  uint64_t buffer_offset_ = 0;  // of buffer_[0] in the file
  int64_t line_number_ = 0;
};

/// Parses a line as one JSON object, keeping the order of keys. Throws kData with file, line and byte offset; says so
/// where the last line was cut.
nlohmann::ordered_json parse_jsonl_line(const JsonlLine& line, const std::filesystem::path& path);

}  // namespace dsft::io
