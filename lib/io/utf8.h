#pragma once

#include <cstddef>
#include <string_view>

namespace dsft::io {

/// The offset of the first byte that is not well-formed UTF-8 (overlong forms, surrogates and values past U+10FFFF
/// included), or npos.
size_t find_invalid_utf8(std::string_view text);

}  // namespace dsft::io
