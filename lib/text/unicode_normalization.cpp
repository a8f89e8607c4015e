#include "text/unicode_normalization.h"

#include <utf8proc.h>

#include <algorithm>

#include "base/error.h"
#include "text/unicode_classes.h"
#include "text/utf8.h"

namespace dsft::text {
namespace {

struct SourcedCharacter {
  uint32_t value;
  int combining_class;
  ByteRange source;
};

bool composes(NormalizationForm form) {
  return form == NormalizationForm::kNfc || form == NormalizationForm::kNfkc;
}
bool is_compatible(NormalizationForm form) {
  return form == NormalizationForm::kNfkc || form == NormalizationForm::kNfkd;
}

void decompose(uint32_t c, ByteRange source, NormalizationForm form, std::vector<SourcedCharacter>& out) {
  constexpr int kMaxParts = 32;  // the longest decomposition of Unicode has 18
  utf8proc_int32_t parts[kMaxParts];
  int last_boundary = 0;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                      (is_compatible(form) ? UTF8PROC_COMPAT : 0));
  const auto count =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, kMaxParts, options, &last_boundary);
  DSFT_CHECK(count >= 0 && count <= kMaxParts, "decomposition of U+", c);
  for (int i = 0; i < count; ++i)
    out.push_back({static_cast<uint32_t>(parts[i]), utf8proc_get_property(parts[i])->combining_class, source});
}

/// Canonical order: runs of combining characters sorted by class, equals in their order.
void reorder(std::vector<SourcedCharacter>& characters) {
  for (auto run = characters.begin(); run != characters.end();) {
    if (run->combining_class == 0) {
      ++run;
      continue;
    }
    auto end = std::find_if(run, characters.end(), [](const auto& c) { return c.combining_class == 0; });
    std::stable_sort(run, end, [](const auto& a, const auto& b) { return a.combining_class < b.combining_class; });
    run = end;
  }
}

/// The character that two make, or 0.
uint32_t compose_pair(uint32_t first, uint32_t second) {
  utf8proc_int32_t pair[3] = {static_cast<utf8proc_int32_t>(first), static_cast<utf8proc_int32_t>(second), 0};
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  return utf8proc_normalize_utf32(pair, 2, options) == 1 ? static_cast<uint32_t>(pair[0]) : 0;
}

/// Canonical composition: each character joins the last starter unless one of the same or a higher class stands between
/// them.
void compose(std::vector<SourcedCharacter>& characters) {
  size_t starter = characters.size();  // index of the last starter kept; none yet
  int last_class = 0;                  // class of the last character kept behind it
  size_t kept = 0;
  for (const SourcedCharacter& c : characters) {
    const bool is_adjacent = starter < characters.size() && kept == starter + 1;
    const bool is_reachable =
        starter < characters.size() && (is_adjacent || (last_class != 0 && last_class < c.combining_class));
    if (const uint32_t joined = is_reachable ? compose_pair(characters[starter].value, c.value) : 0) {
      auto& target = characters[starter];
      target.value = joined;
      target.source = {std::min(target.source.begin, c.source.begin), std::max(target.source.end, c.source.end)};
      continue;
    }
    const SourcedCharacter copy = c;
    if (copy.combining_class == 0) starter = kept;
    last_class = copy.combining_class;
    characters[kept++] = copy;
  }
  characters.resize(kept);
}

/// Normalizes [begin, end) of the old text into the builder.
void normalize_run(const AlignedText& old, size_t begin, size_t end, NormalizationForm form, AlignedTextBuilder& out) {
  std::vector<SourcedCharacter> characters;
  for (size_t i = begin; i < end;) {
    const CodePoint c = decode_valid_utf8(old.text().data() + i);
    decompose(c.value, old.source(i, i + c.size), form, characters);
    i += c.size;
  }
  reorder(characters);
  if (composes(form)) compose(characters);
  std::string bytes;
  for (const auto& c : characters) {
    bytes.clear();
    append_utf8(bytes, c.value);
    out.put(bytes, c.source);
  }
}

/// Whether the form may change this character or join it to the one before.
bool is_sensitive(uint32_t c, NormalizationForm form) {
  if (c < 0x80) return false;
  return form != NormalizationForm::kNfc || (character_classes()[c] & kNfcSensitive);
}

}  // namespace

void normalize_unicode(AlignedText& text, NormalizationForm form) {
  const std::string_view old = text.text();
  AlignedTextBuilder out(text);
  size_t kept = 0;      // end of what was copied or normalized
  size_t previous = 0;  // start of the last insensitive character
  for (size_t i = 0; i < old.size();) {
    CodePoint c = decode_valid_utf8(old.data() + i);
    if (!is_sensitive(c.value, form)) {
      previous = i;
      i += c.size;
      continue;
    }
    const size_t begin = std::max(kept, previous);
    while (i < old.size() && is_sensitive((c = decode_valid_utf8(old.data() + i)).value, form)) i += c.size;
    out.keep(kept, begin);
    normalize_run(text, begin, i, form, out);
    kept = i;
  }
  if (kept == 0) return;
  out.keep(kept, old.size());
  AlignedText result = out.finish();
  if (result.text() != old) text = std::move(result);
}

}  // namespace dsft::text
