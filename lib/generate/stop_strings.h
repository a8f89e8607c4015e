#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace dsft::generate {

/// Ends an answer with the token that completes one of some strings in its text, special tokens included: an
/// EngineOptions::ends_answer. What it looks at does not grow with the answer. Copies share what they learn about
/// tokens; not for several threads at a time.
class StopStrings {
 public:
  /// Borrows the tokenizer. Throws kUsage where a string is empty.
  StopStrings(const text::Tokenizer& tokenizer, std::vector<std::string> strings);

  /// Whether the last of these tokens completes a string. Asked for each token of an answer in turn.
  bool operator()(std::span<const int32_t> answer) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace dsft::generate
