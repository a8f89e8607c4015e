#include "text/decoder.h"

#include <charconv>
#include <memory>
#include <numeric>

#include "base/error.h"
#include "io/utf8.h"
#include "text/aligned_text.h"
#include "text/byte_alphabet.h"
#include "text/json_fields.h"
#include "text/regex.h"
#include "text/utf8.h"

namespace dsft::text {
namespace {

using Tokens = std::vector<std::string>;

size_t total_size(const Tokens& tokens) {
  return std::accumulate(tokens.begin(), tokens.end(), size_t{0},
                         [](size_t sum, const std::string& token) { return sum + token.size(); });
}

std::string join(const Tokens& tokens) {
  std::string text;
  for (const auto& token : tokens) text += token;
  return text;
}

void decode_byte_level(Tokens& tokens) {
  std::string bytes;
  for (const auto& token : tokens) bytes += from_byte_alphabet(token).value_or(token);
  tokens.assign(1, replace_invalid_utf8(bytes));
}

/// The byte of "<0xE2>", or -1.
int byte_of(const std::string& token) {
  unsigned value = 0;
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  return error == std::errc() && end == token.data() + 5 ? static_cast<int>(value) : -1;
}

/// Joins runs of byte tokens; a run that is no valid UTF-8 becomes one U+FFFD per byte.
void decode_byte_fallback(Tokens& tokens) {
  Tokens out;
  std::string run;
  auto flush = [&] {
    if (run.empty()) return;
    if (io::find_invalid_utf8(run) == std::string::npos) {
      out.push_back(run);
    } else {
      out.insert(out.end(), run.size(), "\xEF\xBF\xBD");
    }
    run.clear();
  };
  for (auto& token : tokens) {
    if (const int byte = byte_of(token); byte >= 0) {
      run.push_back(static_cast<char>(byte));
      continue;
    }
    flush();
    out.push_back(std::move(token));
  }
  flush();
  tokens = std::move(out);
}

/// Removes up to `left` and `right` times `content` (one character) at the ends of each token.
void strip(Tokens& tokens, const std::string& content, int64_t left, int64_t right) {
  for (auto& token : tokens) {
    std::string_view rest = token;
    for (int64_t i = 0; i < left && rest.starts_with(content); ++i) rest.remove_prefix(content.size());
    for (int64_t i = 0; i < right && rest.ends_with(content); ++i) rest.remove_suffix(content.size());
    token = std::string(rest);
  }
}

void replace(Tokens& tokens, const Regex& pattern, const std::string& content) {
  for (auto& token : tokens) {
    std::string out;
    size_t done = 0;
    pattern.for_each_match(token, [&](size_t begin, size_t end) {
      if (begin == end) return;
      out.append(token, done, begin - done).append(content);
      done = end;
    });
    token = out.append(token, done);
  }
}

/// Whether the marks of the first token are spaces that the pre-tokenizer put there (the reference takes them all).
enum class MetaspacePrefix { kRemove, kKeep };

void decode_metaspace(Tokens& tokens, const std::string& mark, MetaspacePrefix prefix) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::string out;
    const std::string& token = tokens[i];
    for (size_t k = 0; k < token.size();) {
      if (token.compare(k, mark.size(), mark) != 0) {
        out.push_back(token[k++]);
        continue;
      }
      if (i > 0 || prefix == MetaspacePrefix::kKeep) out.push_back(' ');
      k += mark.size();
    }
    tokens[i] = std::move(out);
  }
}

Decoder build_replace(const JsonFields& fields) {
  const JsonFields pattern(fields.value("pattern"), fields.where() + ".pattern");
  auto regex = std::make_shared<Regex>(
      pattern.has("String") ? escape_regex(pattern.string("String")) : pattern.string("Regex"), fields.where());
  return [regex, content = fields.short_string("content")](Tokens& tokens) { replace(tokens, *regex, content); };
}

Decoder build_strip(const JsonFields& fields) {
  const int64_t left = fields.integer("start"), right = fields.integer("stop");
  return [content = fields.string("content"), left, right](Tokens& tokens) {
    if (!content.empty()) strip(tokens, content, left, right);
  };
}

Decoder build_metaspace(const JsonFields& fields) {
  const bool is_kept = fields.has("prepend_scheme") ? fields.string("prepend_scheme") == "never"
                                                    : !fields.boolean_or("add_prefix_space", true);
  const std::string mark = fields.string("replacement");
  if (mark.empty()) fields.fail_here("\"replacement\" is empty");
  return [mark, is_kept](Tokens& tokens) {
    decode_metaspace(tokens, mark, is_kept ? MetaspacePrefix::kKeep : MetaspacePrefix::kRemove);
  };
}

Decoder build_decoder_step(const nlohmann::json& description, const std::string& where, int depth) {
  const JsonFields fields(description, where);
  if (depth > 8) fields.fail_here("sequences are nested too deeply");
  const std::string type = fields.string("type");
  if (type == "ByteLevel") return decode_byte_level;
  if (type == "ByteFallback") return decode_byte_fallback;
  if (type == "Fuse") return [](Tokens& tokens) { tokens.assign(1, join(tokens)); };
  if (type == "Strip") return build_strip(fields);
  if (type == "Replace") return build_replace(fields);
  if (type == "Metaspace") return build_metaspace(fields);
  if (type != "Sequence") {
    fields.fail_here(
        "the decoder \"" + type +
        "\" is not supported; known are ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace and Sequence");
  }
  std::vector<Decoder> steps;
  for (const auto& step : fields.array("decoders")) steps.push_back(build_decoder_step(step, where, depth + 1));
  return [steps, where](Tokens& tokens) {
    const size_t longest = longest_rewritten(total_size(tokens));
    for (const auto& step : steps) {
      step(tokens);
      if (total_size(tokens) > longest)
        fail(ErrorKind::kCheckpoint, where, ": its steps make a text more than ", kMaxRewrittenRatio, " times longer");
    }
  };
}

}  // namespace

Decoder build_decoder(const nlohmann::json& description, const std::string& where) {
  if (!description.is_null()) return build_decoder_step(description, where, 0);
  return [](Tokens& tokens) {
    for (size_t i = 0; i + 1 < tokens.size(); ++i) tokens[i] += ' ';
  };
}

}  // namespace dsft::text
