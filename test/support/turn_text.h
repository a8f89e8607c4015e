#pragma once

#include <string>

#include "text/chat_template.h"

namespace dsft::test {

/// What a rendering has written for turn `turn`.
inline std::string turn_text(const text::RenderedChat& chat, int32_t turn) {
  std::string found;
  for (const auto& span : chat.spans) {
    if (span.turn == turn) found += chat.text.substr(span.begin, span.end - span.begin);
  }
  return found;
}

}  // namespace dsft::test
