#pragma once

#include <string>
#include <string_view>

namespace dsft::text {

/// A regular expression in Oniguruma's language (which Hugging Face's tokenizers speak) in PCRE2's. What means
/// something else there is said in other words; what cannot be throws kCheckpoint with `where`, naming the construct.
std::string to_pcre2(std::string_view pattern, const std::string& where);

}  // namespace dsft::text
