#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace dsft::io {

/// What an untrusted JSON document may be.
struct JsonLimits {
  uint64_t max_size_bytes = 64 << 20;
  size_t max_depth = 64;
  size_t max_values = 4'000'000;
  bool keeps_long_integers = false;  ///< see as_long_integer; else one past 64 bits is read as the nearest double
};

/// Parses one JSON document. Throws `kind` with "`where`:line:column" for a syntax error, invalid UTF-8, a key written
/// twice in one object, or a document past the limits. `first_line` is the number of the text's first line (for JSONL).
nlohmann::json parse_json(std::string_view text, const std::string& where, ErrorKind kind = ErrorKind::kCheckpoint,
                          const JsonLimits& limits = {}, int64_t first_line = 1);

/// The same, keeping the order of the keys of each object.
nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& where,
                                          ErrorKind kind = ErrorKind::kCheckpoint, const JsonLimits& limits = {},
                                          int64_t first_line = 1);

/// The digits of an integer past 64 bits that was read with keeps_long_integers, or null. nlohmann's type has no such
/// numbers; they are kept as binary values of a subtype of their own.
const std::vector<uint8_t>* as_long_integer(const nlohmann::ordered_json& value);

/// Reads and parses a JSON file.
nlohmann::json read_json_file(const std::filesystem::path& path, ErrorKind kind = ErrorKind::kCheckpoint,
                              const JsonLimits& limits = {});
nlohmann::ordered_json read_ordered_json_file(const std::filesystem::path& path,
                                              ErrorKind kind = ErrorKind::kCheckpoint, const JsonLimits& limits = {});

/// "name:line:column" of a byte of a text.
std::string describe_position(const std::string& name, std::string_view text, size_t offset, int64_t first_line = 1);

}  // namespace dsft::io
