#include "text/jinja_string_operations.h"

#include <algorithm>

#include "text/jinja_fault.h"
#include "text/jinja_unicode.h"

namespace dsft::text::jinja {

void add_part(std::vector<Value>& parts, Text part) {
  if (parts.size() == kMaxItems) fail_render("a string has more than ", kMaxItems, " parts");
  parts.emplace_back(std::move(part));
}

Text strip(const Text& text, const Text* chars, StripSide side) {
  const std::vector<Character> characters = characters_of(text.bytes());
  std::vector<int32_t> set;
  for (const Character& c : chars ? characters_of(chars->bytes()) : std::vector<Character>{}) set.push_back(c.code);
  std::sort(set.begin(), set.end());
  const auto is_stripped = [&](const Character& c) {
    return chars ? std::binary_search(set.begin(), set.end(), c.code) : is_space(c.code);
  };
  size_t begin = 0;
  size_t end = characters.size();
  while (side != StripSide::kRight && begin < end && is_stripped(characters[begin])) ++begin;
  while (side != StripSide::kLeft && end > begin && is_stripped(characters[end - 1])) --end;
  if (begin == end) return text.slice(0, 0);
  return text.slice(characters[begin].begin, characters[end - 1].end);
}

Text replace(const Text& text, const std::string& old, const Text& replacement, int64_t count) {
  Text result;
  result.is_markup = text.is_markup;
  size_t at = 0;
  int64_t done = 0;
  if (old.empty()) {
    for (const Character& c : characters_of(text.bytes())) {
      if (count < 0 || done < count) result.append(replacement);
      ++done;
      result.append(text, c.begin, c.end);
    }
    if (count < 0 || done < count) result.append(replacement);
    return result;
  }
  for (; count < 0 || done < count; ++done) {
    const size_t found = find_bytes(text.bytes(), old, at);
    if (found == std::string::npos) break;
    result.append(text, at, found);
    result.append(replacement);
    at = found + old.size();
  }
  result.append(text, at, text.size());
  return result;
}

std::vector<Value> split_lines(const Text& text, bool keeps_ends) {
  std::vector<Value> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const Character c = character_at(text.bytes(), at);
    at = c.end;
    if (!is_line_break(c.code)) continue;
    if (c.code == '\r' && at < text.size() && text.bytes()[at] == '\n') ++at;
    add_part(lines, text.slice(begin, keeps_ends ? at : c.begin));
    begin = at;
  }
  if (begin < text.size()) add_part(lines, text.slice(begin, text.size()));
  return lines;
}

Text map_characters(const Text& text, void (*append)(std::string&, int32_t)) {
  Text result;
  result.is_markup = text.is_markup;
  size_t at = 0;
  for (const OriginRun& run : text.runs()) {
    std::string part;
    while (at < run.end) {
      const Character c = character_at(text.bytes(), at);
      append(part, c.code);
      at = c.end;
    }
    result.append(part, run.origin);
  }
  return result;
}

Text capitalize(const Text& text) {
  if (text.empty()) return text;
  const size_t first = character_at(text.bytes(), 0).end;
  Text result = map_characters(text.slice(0, first), append_title);
  result.append(map_characters(text.slice(first, text.size()), append_lower));
  return result;
}

Text join(const Text& separator, const std::vector<Value>& items) {
  Text result;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) result.append(separator);
    result.append(*to_text(items[i]));
  }
  return result;
}

bool is_all(const Text& text, bool (*accepts)(int32_t)) {
  const auto characters = characters_of(text.bytes());
  return !characters.empty() &&
         std::all_of(characters.begin(), characters.end(), [&](const Character& c) { return accepts(c.code); });
}

namespace {

bool has_only_case(const Text& text, bool (*wanted)(int32_t), bool (*other)(int32_t)) {
  bool found = false;
  for (const Character& c : characters_of(text.bytes())) {
    if (other(c.code)) return false;
    found = found || wanted(c.code);
  }
  return found;
}

}  // namespace

bool is_all_upper(const Text& text) {
  return has_only_case(text, is_upper, is_lower);
}
bool is_all_lower(const Text& text) {
  return has_only_case(text, is_lower, is_upper);
}

Text pad(const Text& text, int64_t left, int64_t right, const std::string& fill) {
  const auto repeat = [&](int64_t times) {
    std::string result;
    if (times > static_cast<int64_t>(kMaxTextBytes))
      fail_render("a padded string grows past ", kMaxTextBytes >> 20, " MB");
    for (int64_t i = 0; i < times; ++i) result += fill;
    return result;
  };
  Text result(repeat(left), Origin{});
  result.append(text);
  result.append(repeat(right), Origin{});
  result.is_markup = text.is_markup;
  return result;
}

}  // namespace dsft::text::jinja
