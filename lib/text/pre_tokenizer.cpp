#include "text/pre_tokenizer.h"

#include <memory>

#include "text/json_fields.h"
#include "text/regex.h"
#include "text/unicode_classes.h"
#include "text/utf8.h"

namespace dsft::text {
namespace {

/// Makes a step from find_parts(text, parts), which cuts one word, and what becomes of the parts.
template <typename FindParts>
std::function<void(WordCut&)> make_split(FindParts find_parts, SplitBehavior behavior) {
  return [find_parts, behavior](WordCut& cut) {
    cut.old_words.swap(cut.words);
    cut.words.clear();
    for (const Word& word : cut.old_words) {
      cut.parts.clear();
      find_parts(cut.bytes_of(word), cut.parts);
      apply_behavior(behavior, cut.parts);
      for (const PatternPart& part : cut.parts) {
        if (part.begin < part.end) cut.words.push_back({word.text, word.begin + part.begin, word.begin + part.end});
      }
    }
  };
}

/// Cuts a text into characters of a class (matches) and runs of others.
auto find_class(uint8_t mask) {
  return [mask](std::string_view text, std::vector<PatternPart>& parts) {
    uint32_t done = 0;
    for (uint32_t i = 0; i < text.size();) {
      const CodePoint c = decode_valid_utf8(text.data() + i);
      if (character_classes()[c.value] & mask) {
        if (done < i) parts.push_back({done, i, false});
        parts.push_back({i, i + c.size, true});
        done = i + c.size;
      }
      i += c.size;
    }
    if (done < text.size()) parts.push_back({done, static_cast<uint32_t>(text.size()), false});
  };
}

/// Cuts a text into \w+ and [^\w\s]+ (not matches, to be kept) and spaces (matches, to be removed).
void find_words_and_symbols(std::string_view text, std::vector<PatternPart>& parts) {
  auto kind_of = [](uint32_t c) {
    const uint8_t classes = character_classes()[c];
    return classes & kWord ? 0 : classes & kSpace ? 1 : 2;
  };
  for (uint32_t i = 0; i < text.size();) {
    const uint32_t begin = i;
    const int kind = kind_of(decode_valid_utf8(text.data() + i).value);
    while (i < text.size() && kind_of(decode_valid_utf8(text.data() + i).value) == kind)
      i += decode_valid_utf8(text.data() + i).size;
    parts.push_back({begin, i, kind == 1});
  }
}

auto find_pattern(const std::string& expression, const std::string& where) {
  auto pattern = std::make_shared<SplitPattern>(expression, where);
  return [pattern](std::string_view text, std::vector<PatternPart>& parts) { pattern->find_parts(text, parts); };
}

/// Rewrites each word by rewrite(text) -> bool, which says whether it changed anything.
template <typename Rewrite>
std::function<void(WordCut&)> make_rewrite(Rewrite rewrite) {
  return [rewrite](WordCut& cut) {
    for (Word& word : cut.words) {
      const AlignedText& old = cut.texts[word.text];
      AlignedTextBuilder out(old);
      if (!rewrite(old, word, out)) continue;
      cut.texts.push_back(out.finish());
      word = {static_cast<uint32_t>(cut.texts.size() - 1), 0, static_cast<uint32_t>(cut.texts.back().text().size())};
    }
  };
}

/// Puts `prefix` before a word; it stands for the bytes of the word's first character.
void put_prefix(const AlignedText& old, const Word& word, std::string_view prefix, AlignedTextBuilder& out) {
  const size_t first = decode_valid_utf8(old.text().data() + word.begin).size;
  out.put(prefix, old.source(word.begin, word.begin + first));
}

void add_byte_level(const JsonFields& fields, PreTokenizer& out) {
  if (fields.boolean_or("add_prefix_space", true)) {
    out.steps.push_back(make_rewrite([](const AlignedText& old, const Word& word, AlignedTextBuilder& text) {
      if (old.text()[word.begin] == ' ') return false;
      put_prefix(old, word, " ", text);
      text.keep(word.begin, word.end);
      return true;
    }));
  }
  if (fields.boolean_or("use_regex", true)) {
    out.steps.push_back(make_split(find_pattern(std::string(kGpt2Pattern), fields.where()), SplitBehavior::kIsolated));
  }
  out.is_byte_level = true;
}

void add_split(const JsonFields& fields, PreTokenizer& out) {
  const JsonFields pattern(fields.value("pattern"), fields.where() + ".pattern");
  const std::string expression =
      pattern.has("String") ? escape_regex(pattern.string("String")) : pattern.string("Regex");
  const SplitBehavior behavior = parse_split_behavior(fields.string("behavior"), fields.where());
  auto find = find_pattern(expression, fields.where());
  if (!fields.boolean_or("invert", false)) {
    out.steps.push_back(make_split(find, behavior));
    return;
  }
  auto find_inverted = [find](std::string_view text, std::vector<PatternPart>& parts) {
    find(text, parts);
    for (PatternPart& part : parts) part.is_match = !part.is_match;
  };
  out.steps.push_back(make_split(find_inverted, behavior));
}

enum class PrefixScheme { kAlways, kFirst, kNever };

PrefixScheme read_prefix_scheme(const JsonFields& fields) {
  if (!fields.has("prepend_scheme"))
    return fields.boolean_or("add_prefix_space", true) ? PrefixScheme::kAlways : PrefixScheme::kNever;
  const std::string scheme = fields.string("prepend_scheme");
  if (scheme == "always") return PrefixScheme::kAlways;
  if (scheme == "first") return PrefixScheme::kFirst;
  if (scheme == "never") return PrefixScheme::kNever;
  fields.fail_here("the prepend_scheme \"" + scheme + "\" is not known; known are always, first and never");
}

void add_metaspace(const JsonFields& fields, PreTokenizer& out) {
  const std::string mark = fields.short_string("replacement");
  const PrefixScheme scheme = read_prefix_scheme(fields);
  out.steps.push_back(make_rewrite([mark, scheme](const AlignedText& old, const Word& word, AlignedTextBuilder& text) {
    const std::string_view bytes = old.text().substr(word.begin, word.end - word.begin);
    const bool has_mark = bytes[0] == ' ' || bytes.starts_with(mark);
    const bool is_first = old.source(word.begin, word.begin + 1).begin == 0;
    if (!has_mark && (scheme == PrefixScheme::kAlways || (scheme == PrefixScheme::kFirst && is_first)))
      put_prefix(old, word, mark, text);
    for (size_t i = word.begin; i < word.end; ++i) {
      if (old.text()[i] == ' ') {
        text.put(mark, old.source(i, i + 1));
      } else {
        text.keep(i, i + 1);
      }
    }
    return true;
  }));
  if (fields.boolean_or("split", true))
    out.steps.push_back(make_split(find_pattern(escape_regex(mark), fields.where()), SplitBehavior::kMergedWithNext));
}

void add_steps(const nlohmann::json& description, const std::string& where, int depth, PreTokenizer& out) {
  const JsonFields fields(description, where);
  const std::string type = fields.string("type");
  if (depth > 8) fields.fail_here("sequences are nested too deeply");
  if (out.is_byte_level)
    fields.fail_here("the pre-tokenizer \"" + type + "\" after ByteLevel is not supported: ByteLevel must be the last");
  if (type == "Sequence") {
    for (const auto& step : fields.array("pretokenizers")) add_steps(step, where, depth + 1, out);
  } else if (type == "ByteLevel") {
    add_byte_level(fields, out);
  } else if (type == "Split") {
    add_split(fields, out);
  } else if (type == "Digits") {
    const bool individual = fields.boolean_or("individual_digits", false);
    out.steps.push_back(
        make_split(find_class(kNumeric), individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous));
  } else if (type == "Whitespace") {
    out.steps.push_back(make_split(find_words_and_symbols, SplitBehavior::kRemoved));
  } else if (type == "WhitespaceSplit") {
    out.steps.push_back(make_split(find_class(kSpace), SplitBehavior::kRemoved));
  } else if (type == "Punctuation") {
    const SplitBehavior behavior = parse_split_behavior(fields.string_or("behavior", "Isolated"), fields.where());
    out.steps.push_back(make_split(find_pattern(R"([!-/:-@\[-`{-~]|\p{P})", fields.where()), behavior));
  } else if (type == "Metaspace") {
    add_metaspace(fields, out);
  } else {
    fields.fail_here("the pre-tokenizer \"" + type +
                     "\" is not supported; known are ByteLevel, Split, Digits, Whitespace, WhitespaceSplit, "
                     "Punctuation, Metaspace and Sequence");
  }
}

}  // namespace

PreTokenizer build_pre_tokenizer(const nlohmann::json& description, const std::string& where) {
  PreTokenizer result;
  if (!description.is_null()) add_steps(description, where, 0, result);
  return result;
}

}  // namespace dsft::text
