#pragma once

#include <string>
#include <vector>

#include "text/jinja_value.h"

namespace dsft::text::jinja {

/// str.strip, lstrip, rstrip, also behind the filter trim: `chars` null means white space.
enum class StripSide { kBoth, kLeft, kRight };
Text strip(const Text& text, const Text* chars, StripSide side);

/// str.replace; a negative count means all.
Text replace(const Text& text, const std::string& old, const Text& replacement, int64_t count);
/// Appends a part of a text; refuses very many before they take memory.
void add_part(std::vector<Value>& parts, Text part);
/// str.splitlines.
std::vector<Value> split_lines(const Text& text, bool keeps_ends);
/// Maps every character; the origin of each stays.
Text map_characters(const Text& text, void (*append)(std::string&, int32_t));
Text capitalize(const Text& text);
Text join(const Text& separator, const std::vector<Value>& items);
bool is_all(const Text& text, bool (*accepts)(int32_t));
bool is_all_upper(const Text& text);
bool is_all_lower(const Text& text);
/// `fill` times a character around a text, as ljust, rjust and center place it.
Text pad(const Text& text, int64_t left, int64_t right, const std::string& fill);

}  // namespace dsft::text::jinja
