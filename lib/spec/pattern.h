#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace dsft::spec {

/// A regular expression as Python's `re` would use it (PCRE2 underneath, with limits on the work of one match).
class Pattern {
 public:
  /// Compiles; `where` names the setting in the error. Throws kUsage for a faulty expression.
  Pattern(const std::string& expression, const std::string& where);
  ~Pattern();
  Pattern(Pattern&&) noexcept;
  Pattern& operator=(Pattern&&) noexcept;

  /// re.fullmatch: does it match the whole text? Throws kUsage where the match takes too much work.
  bool matches_fully(std::string_view text) const;

  /// re.match, giving the first group's text: false where it does not match at the beginning.
  bool matches_start(std::string_view text, std::string* first_group = nullptr) const;

 private:
  struct Compiled;
  bool run(std::string_view text, uint32_t options, std::string* first_group) const;

  std::unique_ptr<Compiled> compiled_;
};

}  // namespace dsft::spec
