#include "dsft/preview_rows.h"

#include <cstdio>
#include <span>

#include "base/error.h"
#include "report/html_page.h"
#include "report/html_text.h"

namespace dsft::apps {

namespace {

constexpr std::string_view kReplacement = "\uFFFD";
constexpr size_t kMaxPieceTokens = 8;

/// A piece of a row; where its lines end is shown too.
std::string piece_html(const std::string& text) {
  std::string html;
  for (const char character : report::escape_html(text)) html += character == '\n' ? "↵\n" : std::string(1, character);
  return html;
}

/// What a terminal would obey is written as \xNN.
std::string escape_terminal(std::string_view text) {
  std::string escaped;
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f) {
      char code[8];
      std::snprintf(code, sizeof code, "\\x%02x", static_cast<unsigned>(byte));
      escaped += code;
    } else {
      escaped += c;
    }
  }
  return escaped;
}

// Behind that of all pages.
constexpr const char* kStyle =
    "body{max-width:60em}pre{max-height:none;padding:12px 14px;background:var(--card);border:1px solid var(--rule);"
    "border-radius:8px}span{border-left:1px solid var(--rule)}.s{background:#c9f0d0}"
    "@media(prefers-color-scheme:dark){.s{background:#1f5c2e}}";

}  // namespace

std::vector<PreviewPiece> make_pieces(const data::Example& example, const text::Tokenizer& tokenizer) {
  std::vector<PreviewPiece> pieces;
  bool is_open = false;  // the last piece ends inside a character
  for (size_t i = 0; i < example.ids.size(); ++i) {
    const bool is_supervised = example.labels[i] != data::kIgnored;
    if (!is_open || pieces.back().is_supervised != is_supervised) pieces.push_back({"", {}, is_supervised});
    PreviewPiece& piece = pieces.back();
    piece.ids.push_back(example.ids[i]);
    piece.text = tokenizer.decode(piece.ids, /*skip_special_tokens=*/false);
    is_open = piece.text.ends_with(kReplacement) && piece.ids.size() < kMaxPieceTokens;
  }
  return pieces;
}

std::string describe_share(const PreviewRow& row) {
  const data::Example& example = row.example;
  if (row.is_prompt) return concat("a prompt of ", example.ids.size(), " tokens");
  const auto length = static_cast<double>(example.ids.size());
  char share[32];
  std::snprintf(share, sizeof share, "%.1f",
                length > 0 ? 100.0 * static_cast<double>(example.num_supervised()) / length : 0.0);
  return concat(example.num_supervised(), " of ", example.ids.size(), " tokens supervised (", share, " %)");
}

std::string to_html(const std::vector<PreviewRow>& rows, const std::vector<std::string>& summary) {
  const bool are_prompts = !rows.empty() && rows[0].is_prompt;
  std::string body = are_prompts ? "<p>Prompts that the policy answers; hold the pointer over a token for its id.</p>\n"
                                 : "<p>Supervised tokens are <span class=\"s\">marked</span>; hold the pointer over a "
                                   "token for its id.</p>\n";
  for (const std::string& line : summary) body += "<p>" + report::escape_html(line) + "</p>\n";
  for (const PreviewRow& row : rows) {
    body += "<h2>" + report::escape_html(row.origin) + "</h2>\n<p>" + describe_share(row) + "</p>\n<pre>";
    for (const PreviewPiece& piece : row.pieces) {
      std::string ids;
      for (int32_t id : piece.ids) ids += (ids.empty() ? "" : " ") + std::to_string(id);
      body += concat("<span", piece.is_supervised ? " class=\"s\"" : "", " title=\"", ids, "\">",
                     piece_html(piece.text), "</span>");
    }
    body += "</pre>\n";
  }
  return report::write_html({.title = "What the model will see", .style = kStyle, .body = std::move(body)});
}

std::string to_terminal(const std::vector<PreviewRow>& rows, bool has_colour) {
  const std::string_view begin = has_colour ? "\x1b[32m" : "⟦";
  const std::string_view end = has_colour ? "\x1b[0m" : "⟧";
  std::string text;
  for (const PreviewRow& row : rows) {
    text += row.origin + ": " + describe_share(row) + "\n";
    bool is_marked = false;
    for (const PreviewPiece& piece : row.pieces) {
      if (piece.is_supervised != is_marked) text += piece.is_supervised ? begin : end;
      is_marked = piece.is_supervised;
      text += escape_terminal(piece.text);
    }
    text += concat(is_marked ? end : "", "\n\n");
  }
  return text;
}

}  // namespace dsft::apps
