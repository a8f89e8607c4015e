#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace dsft::text {

/// A regular expression of a tokenizer.json (written for Oniguruma), matched by PCRE2 with Unicode classes. Immutable
/// and safe to share between threads.
class Regex {
 public:
  /// Compiles; throws kCheckpoint with `where` and PCRE2's reason.
  Regex(std::string_view pattern, const std::string& where);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  /// Calls on_match(begin, end) for each match from left to right, as Oniguruma's find_iter: after an empty match the
  /// search goes on one character later. `text` must be valid UTF-8. Throws kCheckpoint if a match takes too many
  /// steps.
  void for_each_match(std::string_view text, const std::function<void(size_t, size_t)>& on_match) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The pattern that matches exactly this text.
std::string escape_regex(std::string_view text);

}  // namespace dsft::text
