#include "data/content_parts.h"

#include "base/error.h"
#include "text/jinja_json.h"

namespace dsft::data {

void refuse_printed_parts(const Conversation& conversation, const text::RenderedChat& chat) {
  for (size_t i = 0; i < conversation.messages.size(); ++i) {
    const auto content = conversation.messages[i].find("content");
    if (content == conversation.messages[i].end() || !content->is_array() || content->empty()) continue;
    const std::string printed = text::jinja::represent(text::jinja::value_of_json(*content, {})).bytes();
    if (chat.text.find(printed) == std::string::npos) continue;
    fail(ErrorKind::kData, "field \"messages[", i,
         "].content\": is a list of parts, which the chat template writes as it stands ([{'type': 'text', ...}])"
         " instead of joining the texts. Write the content as one text, or name a template that reads parts in "
         "data.chat_template.");
  }
}

std::vector<text::ByteRange> plain_ranges(const text::RenderedChat& chat) {
  std::vector<text::ByteRange> ranges;
  for (const auto& span : chat.spans) {
    if (!span.is_user_text || span.begin == span.end) continue;
    if (!ranges.empty() && ranges.back().end == span.begin) {
      ranges.back().end = span.end;
    } else {
      ranges.push_back({span.begin, span.end});
    }
  }
  return ranges;
}

}  // namespace dsft::data
