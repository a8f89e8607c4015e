#include "text/known_patterns.h"

#include <catch_amalgamated.hpp>
#include <random>

#include "text/regex.h"
#include "text/unicode_classes.h"
#include "text/utf8.h"

using namespace dsft::text;

namespace {

std::vector<uint8_t> pcre_class(const std::string& expression) {
  std::string all;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c < 0xD800 || c >= 0xE000) append_utf8(all, c);
  }
  std::vector<uint8_t> is_member(0x110000);
  Regex(expression, "test").for_each_match(all, [&](size_t begin, size_t) {
    is_member[decode_valid_utf8(all.data() + begin).value] = 1;
  });
  return is_member;
}

/// Characters on whose classes PCRE2's Unicode version and the table agree.
const std::vector<uint8_t>& agreed_characters() {
  static const std::vector<uint8_t> agreed = [] {
    std::vector<uint8_t> result(0x110000, 1);
    const uint8_t* classes = character_classes();
    for (const auto& [expression, bit] :
         std::vector<std::pair<std::string, uint8_t>>{{"\\p{L}", kLetter}, {"\\p{N}", kNumber}, {"\\s", kSpace}}) {
      const auto members = pcre_class(expression);
      for (uint32_t c = 0; c < 0x110000; ++c) result[c] &= (members[c] != 0) == ((classes[c] & bit) != 0);
    }
    return result;
  }();
  return agreed;
}

/// Text in which all alternatives of the expressions come up, with characters of all of Unicode.
std::string random_text(std::mt19937& random) {
  static const std::vector<std::string> pieces = {
      "'s",  "'T",   "'re",  "'VE", "'ll",    "'lL",    "'d",     "'M",       "'\u017F", "'", "''", " ",   "  ",
      " \n", "\r\n", "\n\n", "\t",  "\u00a0", "\u2003", "\u3000", "\u0085",   "\u180e",  "a", "Z",  "é",   "中",
      "1",   "22",   "½",    "٣",   "Ⅷ",      "!",      "...",    "👍🏽", "\u0301",  "_", "-",  "x\n", "/\n"};
  std::string text;
  const size_t length = 1 + random() % 24;
  while (text.size() < length) {
    if (random() % 4) {
      text += pieces[random() % pieces.size()];
    } else {
      const uint32_t c = random() % (random() % 2 ? 0x3000 : 0x110000);
      if (c < 0xD800 || c >= 0xE000) {
        if (agreed_characters()[c]) append_utf8(text, c);
      }
    }
  }
  return text;
}

}  // namespace

TEST_CASE("the table of classes differs from PCRE2's only in characters that one of the two does not know yet",
          "[text]") {
  const auto unassigned = pcre_class("\\p{Cn}");
  size_t num_different = 0;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (agreed_characters()[c] || (c >= 0xD800 && c < 0xE000)) continue;
    ++num_different;
    CAPTURE(c);
    CHECK((unassigned[c] || !character_classes()[c]));
  }
  CHECK(num_different < 20000);
}

TEST_CASE("the hand-written matchers cut random text as PCRE2 does", "[text]") {
  const auto expression = GENERATE(kGpt2Pattern, kLlama3Pattern, kQwen2Pattern);
  const KnownPattern pattern = find_known_pattern(expression).value();
  const Regex regex(expression, "test");
  std::mt19937 random(5);
  for (int round = 0; round < 100'000; ++round) {
    const std::string text = random_text(random);
    std::vector<size_t> expected, own;
    regex.for_each_match(text, [&](size_t, size_t end) { expected.push_back(end); });
    for (size_t i = 0; i < text.size(); own.push_back(i)) i = next_known_match(pattern, text, i);
    if (own != expected) {
      CAPTURE(text, expression);
      REQUIRE(own == expected);
    }
  }
}

TEST_CASE("other expressions have no hand-written matcher", "[text]") {
  CHECK_FALSE(find_known_pattern("\\s+").has_value());
}
