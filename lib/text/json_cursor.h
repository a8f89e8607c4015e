#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace dsft::text {

/// Reads a JSON text forward without building a tree: tokenizer.json holds 10 MB of vocabulary and merges that are
/// wanted in flat tables at once. Small values are taken as text by skip_value and parsed by a JSON library. Every
/// fault is a kCheckpoint error with the file and the line.
class JsonCursor {
 public:
  /// `text` must outlive the cursor and be valid UTF-8; `name` is the file for messages; `start` is the byte at which
  /// to begin.
  JsonCursor(std::string_view text, std::string name, size_t start = 0)
      : text_(text), name_(std::move(name)), position_(start) {}

  /// Calls on_member(key) for each member of an object; it must consume the value.
  template <typename Function>
  void for_each_member(Function on_member) {
    expect('{');
    if (accept('}')) return;
    std::string scratch;
    do {
      std::string_view key = read_string(scratch);
      expect(':');
      on_member(key);
    } while (accept(','));
    expect('}');
  }

  /// Calls on_element() for each element of an array; it must consume the element.
  template <typename Function>
  void for_each_element(Function on_element) {
    expect('[');
    if (accept(']')) return;
    do on_element();
    while (accept(','));
    expect(']');
  }

  /// A string; a view into the text, or into `scratch` where it holds escapes.
  std::string_view read_string(std::string& scratch);
  int64_t read_integer();
  /// Steps over any value and gives its text; brackets and strings are checked, the rest is the later reader's job.
  std::string_view skip_value();

  char peek();
  void expect(char c);
  bool accept(char c);
  void expect_end();
  size_t position() const { return position_; }
  const std::string& name() const { return name_; }
  [[noreturn]] void fail_here(const std::string& what) const;

 private:
  void skip_space();
  void read_escape(std::string& out);
  uint32_t read_hex4();

  std::string_view text_;
  std::string name_;
  size_t position_;
};

}  // namespace dsft::text
