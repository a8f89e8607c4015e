#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rewards/sample.h"

namespace dsft::rewards {

/// What dsft and a reward program say to each other: one JSON object per line, UTF-8 (docs/rewards.md).
inline constexpr int64_t kProtocol = 1;

/// The first line of a program: {"protocol": 1, "name": ...}; gives the name. Throws kData with what is wrong.
std::string read_greeting(std::string_view line);

/// {"id", "step", "prompts", "completions", "completion_ids", "columns"} with its newline: lists with one entry for
/// each sample, `columns` an object of such lists (null where a sample lacks a column). Invalid UTF-8 becomes U+FFFD.
std::string write_request(int64_t id, int64_t step, std::span<const Sample> samples);

/// The answer to a request: {"id", "rewards": [number or null, ...]}. Throws kData with what is wrong: no JSON, another
/// id, another number of rewards, something that is no finite number.
std::vector<std::optional<double>> read_reply(std::string_view line, int64_t id, size_t num_samples);

/// The longest line that a program may write.
size_t longest_line(size_t num_samples);

/// Cuts a program's standard output into lines and refuses endless ones.
class LineReader {
 public:
  /// Throws kData as soon as a line without its newline is longer than `longest` bytes.
  void add(std::string_view bytes, size_t longest);
  /// Takes the next whole line, without its newline.
  std::optional<std::string> next();
  /// Whether anything has been read and not been taken.
  bool is_empty() const { return pending_.empty(); }
  /// The beginning of what has not been taken, for a message.
  std::string beginning() const;

 private:
  std::string pending_;
  size_t num_searched_ = 0;  ///< bytes of pending_ known to hold no newline
};

/// A text for a message: on one line, at most 120 bytes.
std::string shortened(std::string_view text);

}  // namespace dsft::rewards
