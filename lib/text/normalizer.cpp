#include "text/normalizer.h"

#include <utf8proc.h>

#include <memory>
#include <optional>

#include "base/error.h"
#include "text/json_fields.h"
#include "text/regex.h"
#include "text/unicode_classes.h"
#include "text/unicode_normalization.h"
#include "text/utf8.h"

namespace dsft::text {
namespace {

Normalizer build_normalizer_step(const nlohmann::json& description, const std::string& where, int depth);

void prepend(AlignedText& text, const std::string& prefix) {
  if (text.text().empty()) return;
  AlignedTextBuilder out(text);
  const size_t first = decode_valid_utf8(text.text().data()).size;
  out.put(prefix, text.source(0, first));
  out.keep(0, text.text().size());
  text = out.finish();
}

void replace(AlignedText& text, const Regex& pattern, const std::string& content) {
  AlignedTextBuilder out(text);
  size_t kept = 0;
  bool is_changed = false;
  pattern.for_each_match(text.text(), [&](size_t begin, size_t end) {
    if (begin == end) return;
    out.keep(kept, begin);
    out.put(content, text.source(begin, end));
    kept = end;
    is_changed = true;
  });
  if (!is_changed) return;
  out.keep(kept, text.text().size());
  text = out.finish();
}

void lowercase(AlignedText& text) {
  constexpr uint32_t kCapitalIWithDot = 0x130;  // the one letter whose lower case is two characters
  const std::string_view old = text.text();
  AlignedTextBuilder out(text);
  std::string lower;
  for (size_t i = 0; i < old.size();) {
    const CodePoint c = decode_valid_utf8(old.data() + i);
    lower.clear();
    if (c.value == kCapitalIWithDot) {
      lower = "i\xCC\x87";
    } else {
      append_utf8(lower, static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c.value))));
    }
    out.put(lower, text.source(i, i + c.size));
    i += c.size;
  }
  text = out.finish();
}

void strip_accents(AlignedText& text) {
  const std::string_view old = text.text();
  AlignedTextBuilder out(text);
  for (size_t i = 0; i < old.size();) {
    const CodePoint c = decode_valid_utf8(old.data() + i);
    if (!(character_classes()[c.value] & kMark)) out.keep(i, i + c.size);
    i += c.size;
  }
  text = out.finish();
}

void strip(AlignedText& text, bool left, bool right) {
  const std::string_view old = text.text();
  auto is_space = [&](size_t i) { return character_classes()[decode_valid_utf8(old.data() + i).value] & kSpace; };
  size_t begin = 0, end = old.size();
  while (left && begin < end && is_space(begin)) begin += decode_valid_utf8(old.data() + begin).size;
  while (right && end > begin && is_space(last_character(old.substr(0, end)))) end = last_character(old.substr(0, end));
  if (begin == 0 && end == old.size()) return;
  AlignedTextBuilder out(text);
  out.keep(begin, end);
  text = out.finish();
}

Normalizer build_sequence(const JsonFields& fields, int depth) {
  std::vector<Normalizer> steps;
  for (const auto& step : fields.array("normalizers"))
    steps.push_back(build_normalizer_step(step, fields.where(), depth + 1));
  return [steps, where = fields.where()](AlignedText& text) {
    const size_t longest = longest_rewritten(text.text().size());
    for (const auto& step : steps) {
      step(text);
      if (text.text().size() > longest)
        fail(ErrorKind::kCheckpoint, where, ": its steps make a text more than ", kMaxRewrittenRatio, " times longer");
    }
  };
}

Normalizer build_replace(const JsonFields& fields) {
  const JsonFields pattern(fields.value("pattern"), fields.where() + ".pattern");
  const std::string expression =
      pattern.has("String") ? escape_regex(pattern.string("String")) : pattern.string("Regex");
  auto regex = std::make_shared<Regex>(expression, fields.where());
  return [regex, content = fields.short_string("content")](AlignedText& text) { replace(text, *regex, content); };
}

Normalizer build_normalizer_step(const nlohmann::json& description, const std::string& where, int depth) {
  const JsonFields fields(description, where);
  if (depth > 8) fields.fail_here("sequences are nested too deeply");
  const std::string type = fields.string("type");
  const auto form = [](NormalizationForm f) -> Normalizer {
    return [f](AlignedText& text) { normalize_unicode(text, f); };
  };
  if (type == "NFC") return form(NormalizationForm::kNfc);
  if (type == "NFD") return form(NormalizationForm::kNfd);
  if (type == "NFKC") return form(NormalizationForm::kNfkc);
  if (type == "NFKD") return form(NormalizationForm::kNfkd);
  if (type == "Lowercase") return lowercase;
  if (type == "StripAccents") return strip_accents;
  if (type == "Replace") return build_replace(fields);
  if (type == "Sequence") return build_sequence(fields, depth);
  if (type == "Prepend") {
    return [prefix = fields.short_string("prepend")](AlignedText& text) { prepend(text, prefix); };
  }
  if (type == "Strip") {
    return [left = fields.boolean("strip_left"), right = fields.boolean("strip_right")](AlignedText& text) {
      strip(text, left, right);
    };
  }
  fields.fail_here("the normalizer \"" + type +
                   "\" is not supported; known are NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Replace, "
                   "Prepend and Sequence");
}

}  // namespace

Normalizer build_normalizer(const nlohmann::json& description, const std::string& where) {
  if (description.is_null()) return [](AlignedText&) {};
  return build_normalizer_step(description, where, 0);
}

}  // namespace dsft::text
