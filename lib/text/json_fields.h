#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace dsft::text {

/// A JSON object of a file, read with errors that name the file and the field.
class JsonFields {
 public:
  /// `where` is the file and the path inside it ("x/tokenizer.json: pre_tokenizer"). Throws kCheckpoint unless `value`
  /// is an object.
  JsonFields(const nlohmann::json& value, std::string where);

  /// Whether the field is there and not null.
  bool has(const char* name) const;
  std::string string(const char* name) const;
  std::string string_or(const char* name, std::string fallback) const;
  /// A string of at most 64 bytes: one that is put into texts many times.
  std::string short_string(const char* name) const;
  bool boolean(const char* name) const;
  bool boolean_or(const char* name, bool fallback) const;
  int64_t integer(const char* name) const;
  int64_t integer_or(const char* name, int64_t fallback) const;
  const nlohmann::json& value(const char* name) const;
  const nlohmann::json& array(const char* name) const;

  const std::string& where() const { return where_; }
  [[noreturn]] void fail_here(const std::string& what) const;

 private:
  const nlohmann::json& value_;
  std::string where_;
};

}  // namespace dsft::text
