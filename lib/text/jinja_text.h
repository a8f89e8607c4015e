#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace dsft::text::jinja {

/// No text of a template run holds more bytes than this of the template's making, or of the row; crossing one is a
/// fault. A row may be as long as the tokenizer takes: whether it is kept, cut or dropped is decided by its tokens.
inline constexpr size_t kMaxTextBytes = 4u << 20;
inline constexpr size_t kMaxDataBytes = 64u << 20;

/// Where a byte of a string comes from. It travels with the string through concatenation, slicing, filters and macros.
struct Origin {
  static constexpr int32_t kNoMessage = -1;

  int32_t message = kNoMessage;  ///< message that the byte was copied from, or in whose turn the template wrote it
  int32_t turn = kNoMessage;     ///< message that was being rendered when the byte was written
  bool is_data = false;          ///< copied from the row, not written by the template
  bool is_generation = false;    ///< written inside {% generation %}

  bool operator==(const Origin&) const = default;
};

/// The bytes from the end of the run before up to `end`, all of one origin.
struct OriginRun {
  size_t end = 0;
  Origin origin;
};

/// The first place of `part` in `text` from `from` on, or npos; in linear time whatever the texts, as std::string::find
/// is not.
size_t find_bytes(std::string_view text, std::string_view part, size_t from = 0);
/// The last place of `part`, likewise.
size_t find_last_bytes(std::string_view text, std::string_view part);

/// A UTF-8 string whose bytes know their origin.
class Text {
 public:
  Text() = default;
  Text(std::string bytes, Origin origin);

  const std::string& bytes() const { return bytes_; }
  const std::vector<OriginRun>& runs() const { return runs_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }

  /// The origin of one byte; the origin of an empty text is the default one.
  Origin origin_at(size_t byte) const;

  /// Throws Fault past kMaxTextBytes or kMaxDataBytes, as do all that grow a text.
  void append(std::string_view bytes, Origin origin);
  void append(const Text& other);
  void append(const Text& other, size_t begin, size_t end);
  Text slice(size_t begin, size_t end) const;

  /// Marks the bytes from `begin` as written while `turn` was rendered: words without a message get it as their
  /// message.
  void stamp(size_t begin, int32_t turn, bool is_generation);

  /// The one message that the data bytes from `begin` were copied from; kNoMessage where there is none or more than
  /// one.
  int32_t only_message(size_t begin) const;

  bool is_markup = false;  ///< the result of `safe` or `escape`: `+` escapes the other side, as MarkupSafe does

 private:
  std::string bytes_;
  std::vector<OriginRun> runs_;
  size_t num_data_bytes_ = 0;  // of bytes_, those that the row gave
};

using TextPtr = std::shared_ptr<const Text>;

}  // namespace dsft::text::jinja
