#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace dsft::text {

/// Splitting expressions for which there is a hand-written matcher, several times as fast as PCRE2's compiled code.
/// Each cuts a text without gaps.
enum class KnownPattern {
  kGpt2,    ///< GPT-2 and all ByteLevel(use_regex)
  kLlama3,  ///< Llama 3: caseless contractions, numbers of up to three digits, line ends
  kQwen2,   ///< Qwen2, Qwen3: as Llama 3, each digit alone
};

/// GPT-2's expression, which ByteLevel(use_regex) stands for.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::optional<KnownPattern> find_known_pattern(std::string_view expression);

/// End of the match that starts at `begin` (below text.size()); matches follow each other from 0 to the end. `text`
/// must be valid UTF-8.
size_t next_known_match(KnownPattern pattern, std::string_view text, size_t begin);

}  // namespace dsft::text
