#pragma once

#include <vector>

#include "data/row_format.h"
#include "text/chat_template.h"

namespace dsft::data {

/// Throws kData where the template wrote a content that is a list of parts as a whole, as Python prints a list
/// ("[{'type': 'text', 'text': 'Hi'}]"), instead of the texts in it: no model should learn that.
void refuse_printed_parts(const Conversation& conversation, const text::RenderedChat& chat);

/// What users wrote in a rendered conversation, merged: it never becomes a special token.
std::vector<text::ByteRange> plain_ranges(const text::RenderedChat& chat);

}  // namespace dsft::data
