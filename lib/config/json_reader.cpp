#include "config/json_reader.h"

#include <array>
#include <cctype>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "config/yaml_reader.h"

namespace dsft::config {
namespace {

/// Ends the reading of a document.
struct JsonBroken {
  Position position;
  std::string message;
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

void append_utf8(uint32_t code, std::string& text) {
  const auto put = [&text](uint32_t byte) { text += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

class JsonReader {
 public:
  JsonReader(const std::string& text, const std::string& name, std::vector<Fault>& faults)
      : text_(text), name_(name), faults_(faults) {}

  Node read_document() {
    skip_space();
    Node root = read_value("", 0);
    skip_space();
    if (at_ < text_.size()) broken("something stands after the end of the document");
    return root;
  }

 private:
  Position position() const { return {name_, line_, static_cast<int>(at_ - line_begin_) + 1}; }

  [[noreturn]] void broken(const std::string& message) const {
    throw JsonBroken{position(), "not valid JSON: " + message};
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool is_next(std::string_view word) const { return text_.compare(at_, word.size(), word) == 0; }

  void skip_to(size_t end) {
    for (; at_ < end && at_ < text_.size(); ++at_) {
      if (text_[at_] != '\n') continue;
      ++line_;
      line_begin_ = at_ + 1;
    }
  }

  void skip_space() {
    while (at_ < text_.size()) {
      if (is_next(" ") || is_next("\t") || is_next("\r") || is_next("\n")) {
        skip_to(at_ + 1);
      } else if (is_next("//") || is_next("#")) {
        skip_to(text_.find('\n', at_));
      } else if (is_next("/*")) {
        const size_t end = text_.find("*/", at_ + 2);
        if (end == std::string::npos) broken("this comment has no end");
        skip_to(end + 2);
      } else {
        return;
      }
    }
  }

  /// `path`: the full key of the value.
  Node read_value(const std::string& path, int depth) {
    if (depth >= kMaxDepth) throw JsonBroken{position(), concat("nested deeper than ", kMaxDepth, " levels")};
    if (++num_nodes_ > kMaxNodes) throw JsonBroken{position(), concat("the file has more than ", kMaxNodes, " values")};
    const Position begin = position();
    Node node;
    if (peek() == '{') {
      node = read_object(path, depth);
    } else if (peek() == '[') {
      node = read_list(path, depth);
    } else if (peek() == '"') {
      node = make_string(read_string());
    } else {
      node = read_word();
    }
    node.position = begin;
    return node;
  }

  Node read_object(const std::string& path, int depth) {
    Node map;
    map.kind = Node::Kind::kMap;
    std::unordered_map<std::string, int> key_lines;
    for (bool is_open = open('}'); is_open; is_open = go_on('}')) {
      const Position key_position = position();
      if (peek() != '"') broken("a key in double quotes is needed here");
      std::string key = read_string();
      if (key.size() > kMaxKeyBytes)
        throw JsonBroken{key_position, concat("a key is longer than ", kMaxKeyBytes, " bytes")};
      skip_space();
      if (peek() != ':') broken("`:` is needed here, after a key");
      skip_to(at_ + 1);
      skip_space();
      const std::string key_path = path.empty() ? key : path + "." + key;
      Node value = read_value(key_path, depth + 1);
      const auto [first, is_new] = key_lines.emplace(key, key_position.line);
      if (is_new) {
        map.entries.push_back({std::move(key), key_position, std::move(value)});
      } else if (faults_.size() < kMaxFaults) {
        faults_.push_back(
            {key_position, key_path,
             concat("is written twice: first at line ", first->second, ", again here; remove one of them")});
      }
    }
    return map;
  }

  Node read_list(const std::string& path, int depth) {
    Node list;
    list.kind = Node::Kind::kSequence;
    for (bool is_open = open(']'); is_open; is_open = go_on(']')) list.items.push_back(read_value(path, depth + 1));
    return list;
  }

  /// Passes the bracket; whether a first element follows.
  bool open(char end) {
    skip_to(at_ + 1);
    skip_space();
    if (peek() != end) return true;
    skip_to(at_ + 1);
    return false;
  }

  /// Passes what stands behind an element; whether another one follows.
  bool go_on(char end) {
    skip_space();
    const char c = peek();
    if (c != ',' && c != end) broken(concat("`,` or `", end, "` is needed here"));
    skip_to(at_ + 1);
    if (c == end) return false;
    skip_space();
    if (peek() == end) broken(concat("a comma stands before `", end, "`; remove it"));
    return true;
  }

  std::string read_string() {
    const Position begin = position();
    std::string text;
    ++at_;
    while (peek() != '"') {
      const auto c = static_cast<unsigned char>(peek());
      if (at_ >= text_.size() || c == '\n') throw JsonBroken{begin, "not valid JSON: this text has no closing quote"};
      if (c < 0x20) broken("a control byte stands in a text");
      if (c == '\\') {
        read_escape(text);
      } else {
        text += text_[at_++];
      }
    }
    ++at_;
    return text;
  }

  void read_escape(std::string& text) {
    constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    ++at_;
    if (peek() == 'u') {
      uint32_t code = read_unit();
      if (code >= 0xD800 && code < 0xDC00 && is_next("\\u")) {
        ++at_;
        const uint32_t low = read_unit();
        if (low < 0xDC00 || low >= 0xE000) broken("half a surrogate pair");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
      }
      if (code >= 0xD800 && code < 0xE000) broken("half a surrogate pair");
      append_utf8(code, text);
      return;
    }
    const size_t index = at_ < text_.size() ? kNames.find(peek()) : std::string_view::npos;
    if (index == std::string_view::npos) broken("no escape that JSON knows");
    text += kMeanings[index];
    ++at_;
  }

  /// The four digits after `\u`.
  uint32_t read_unit() {
    ++at_;
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      if (!std::isxdigit(static_cast<unsigned char>(c))) broken("`\\u` needs four hexadecimal digits");
      code = code * 16 + static_cast<uint32_t>(is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return code;
  }

  /// true, false, null or a number.
  Node read_word() {
    for (const char* word : {"true", "false", "null"}) {
      if (!is_next(word)) continue;
      at_ += std::string_view(word).size();
      return word == std::string_view("null") ? make_null() : make_plain(word);
    }
    return read_number();
  }

  Node read_number() {
    const size_t begin = at_;
    if (peek() == '-') ++at_;
    if (!is_digit(peek())) {
      at_ = begin;
      broken(at_ == text_.size() ? "the document ends here" : "a value is needed here");
    }
    const auto skip_digits = [this] {
      if (!is_digit(peek())) broken("a digit is needed here");
      while (is_digit(peek())) ++at_;
    };
    skip_digits();
    if (peek() == '.') {
      ++at_;
      skip_digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      skip_digits();
    }
    return make_plain(text_.substr(begin, at_ - begin));
  }

  const std::string& text_;
  const std::string& name_;
  std::vector<Fault>& faults_;
  size_t at_ = 0, line_begin_ = 0;
  int line_ = 1;
  int64_t num_nodes_ = 0;
};

}  // namespace

Node read_json(const std::string& text, const std::string& name, std::vector<Fault>& faults) {
  if (text.size() > kMaxRecipeBytes) {
    faults.push_back({{name, 0, 0}, "", concat("has ", text.size(), " bytes; at most ", kMaxRecipeBytes, " are read")});
    return Node{};
  }
  try {
    return JsonReader(text, name, faults).read_document();
  } catch (const JsonBroken& end) {
    faults.push_back({end.position, "", end.message});
  }
  return Node{};
}

}  // namespace dsft::config
