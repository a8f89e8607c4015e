#include "io/json.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <unordered_set>
#include <vector>

#include "io/file.h"
#include "io/utf8.h"

namespace dsft::io {

namespace {

/// Reads characters and tells a handler how far the parser has come.
class TrackedIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  TrackedIterator(const char* at, const char** reached) : at_(at), reached_(reached) {}
  reference operator*() const { return *at_; }
  TrackedIterator& operator++() {
    *reached_ = ++at_;
    return *this;
  }
  bool operator==(const TrackedIterator& other) const { return at_ == other.at_; }
  bool operator!=(const TrackedIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** reached_;
};

constexpr uint8_t kLongInteger = 1;  // subtype of a binary value

/// Builds a document from parse events under limits; a fault carries the offset that the parser has reached.
template <typename Json>
class DocumentBuilder {
  static constexpr bool kIsOrdered = std::is_same_v<Json, nlohmann::ordered_json>;

 public:
  struct Fault {
    size_t offset;
    std::string message;
  };

  DocumentBuilder(std::string_view text, const JsonLimits& limits)
      : text_(text), limits_(limits), reached_(text.data()) {}

  Json build() {
    const TrackedIterator begin(text_.data(), &reached_);
    const TrackedIterator end(text_.data() + text_.size(), &reached_);
    Json::sax_parse(begin, end, this);
    return std::move(root_);
  }

  bool null() { return add(Json(nullptr)); }
  bool boolean(bool value) { return add(Json(value)); }
  bool number_integer(int64_t value) { return add(Json(value)); }
  bool number_unsigned(uint64_t value) { return add(Json(value)); }
  bool number_float(double value, const std::string& text) {
    const bool is_integer = text.find_first_of(".eE") == std::string::npos;
    if (!limits_.keeps_long_integers || !is_integer) return add(Json(value));
    return add(Json::binary({text.begin(), text.end()}, kLongInteger));
  }
  bool string(std::string& value) { return add(Json(std::move(value))); }
  bool binary(typename Json::binary_t&) { return false; }
  bool start_object(size_t) { return open(Json::object()); }
  bool start_array(size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(std::string& name) {
    if (!is_new_key(name)) fault("the key \"" + name.substr(0, 200) + "\" is written twice in one object");
    key_ = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: what": the position is said in our own words
    std::string what = error.what();
    const size_t colon = what.find(": ");
    if (colon != std::string::npos) what = what.substr(colon + 2);
    throw Fault{position > 0 ? position - 1 : 0, what};
  }

 private:
  [[noreturn]] void fault(std::string message) const {
    const size_t reached = static_cast<size_t>(reached_ - text_.data());
    throw Fault{reached > 0 ? reached - 1 : 0, std::move(message)};
  }

  /// An ordered object looks through all its keys; past a few, a set beside it keeps reading linear.
  bool is_new_key(const std::string& name) {
    constexpr size_t kFewKeys = 32;
    const Json& object = *open_.back();
    if (!kIsOrdered || object.size() < kFewKeys) return !object.contains(name);
    std::unordered_set<std::string>& keys = keys_.back();
    if (keys.empty()) {
      for (const auto& [key, value] : object.items()) keys.insert(key);
    }
    return keys.insert(name).second;
  }

  Json* place(Json value) {
    if (++num_values_ > limits_.max_values) fault(concat("the document has more than ", limits_.max_values, " values"));
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    auto& object = parent.template get_ref<typename Json::object_t&>();
    // the key is new: an ordered object need not look for it once more
    if constexpr (kIsOrdered)
      return &object.emplace_back(std::move(key_), std::move(value)).second;
    else
      return &object.emplace(std::move(key_), std::move(value)).first->second;
  }

  bool add(Json value) {
    place(std::move(value));
    return true;
  }

  bool open(Json value) {
    if (open_.size() >= limits_.max_depth)
      fault(concat("the document is nested deeper than ", limits_.max_depth, " levels"));
    open_.push_back(place(std::move(value)));
    keys_.emplace_back();
    return true;
  }

  bool close() {
    open_.pop_back();
    keys_.pop_back();
    return true;
  }

  std::string_view text_;
  const JsonLimits& limits_;
  const char* reached_;
  Json root_;
  std::vector<Json*> open_;  // an open container is always the last element of its parent, so the pointers stay valid
  std::vector<std::unordered_set<std::string>> keys_;  // of each open object of many keys
  std::string key_;
  size_t num_values_ = 0;
};

template <typename Json>
Json parse(std::string_view text, const std::string& where, ErrorKind kind, const JsonLimits& limits,
           int64_t first_line) {
  if (text.size() > limits.max_size_bytes)
    fail(kind, where, " has ", text.size(), " bytes; at most ", limits.max_size_bytes, " are read.");
  const size_t invalid = find_invalid_utf8(text);
  if (invalid != std::string_view::npos) {
    fail(kind, describe_position(where, text, invalid, first_line), ": byte ", invalid,
         " is not valid UTF-8. Save the file as UTF-8.");
  }
  DocumentBuilder<Json> builder(text, limits);
  try {
    return builder.build();
  } catch (const typename DocumentBuilder<Json>::Fault& fault) {
    fail(kind, describe_position(where, text, fault.offset, first_line), ": not valid JSON: ", fault.message, ".");
  }
}

}  // namespace

std::string describe_position(const std::string& name, std::string_view text, size_t offset, int64_t first_line) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const int64_t line = first_line + std::count(before.begin(), before.end(), '\n');
  const size_t newline = before.rfind('\n');
  const size_t column = newline == std::string_view::npos ? before.size() + 1 : before.size() - newline;
  return concat(name, ":", line, ":", column);
}

const std::vector<uint8_t>* as_long_integer(const nlohmann::ordered_json& value) {
  return value.is_binary() ? &value.get_binary() : nullptr;
}

nlohmann::json parse_json(std::string_view text, const std::string& where, ErrorKind kind, const JsonLimits& limits,
                          int64_t first_line) {
  return parse<nlohmann::json>(text, where, kind, limits, first_line);
}

nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& where, ErrorKind kind,
                                          const JsonLimits& limits, int64_t first_line) {
  return parse<nlohmann::ordered_json>(text, where, kind, limits, first_line);
}

nlohmann::json read_json_file(const std::filesystem::path& path, ErrorKind kind, const JsonLimits& limits) {
  return parse_json(read_text_file(path, limits.max_size_bytes, kind), path.string(), kind, limits);
}

nlohmann::ordered_json read_ordered_json_file(const std::filesystem::path& path, ErrorKind kind,
                                              const JsonLimits& limits) {
  return parse_ordered_json(read_text_file(path, limits.max_size_bytes, kind), path.string(), kind, limits);
}

}  // namespace dsft::io
