#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/example.h"
#include "text/tokenizer.h"

namespace dsft::apps {

/// A stretch of a row that is shown as one: a token, or the few that make up one character.
struct PreviewPiece {
  std::string text;
  std::vector<int32_t> ids;
  bool is_supervised = false;
};

/// A row as the model sees it.
struct PreviewRow {
  std::string origin;  ///< "train.jsonl:12"
  data::Example example;
  std::vector<PreviewPiece> pieces;
  bool is_prompt = false;  ///< that a policy answers: nothing of it is learned
};

/// Cuts a row into pieces.
std::vector<PreviewPiece> make_pieces(const data::Example& example, const text::Tokenizer& tokenizer);

/// A self-contained HTML page of the rows; `summary`: lines about the whole data set. Everything that comes from the
/// data is escaped.
std::string to_html(const std::vector<PreviewRow>& rows, const std::vector<std::string>& summary);

/// The rows for a terminal: supervised text in colour where `has_colour`, else in ⟦brackets⟧. Control characters of the
/// data are spelled out.
std::string to_terminal(const std::vector<PreviewRow>& rows, bool has_colour);

/// "12 of 40 tokens supervised (30.0 %)", or "a prompt of 40 tokens".
std::string describe_share(const PreviewRow& row);

}  // namespace dsft::apps
