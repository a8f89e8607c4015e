#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "kernels/decode_attention.h"

namespace dsft::generate {

/// A sequence as a decoding step sees it.
struct RowState {
  int32_t last_token = 0;      ///< not in the cache yet
  int64_t length = 0;          ///< tokens in the cache
  int64_t limit = 1;           ///< tokens that its pages hold; a row that reaches it overwrites its last place
  uint64_t stream = 0;         ///< of its random numbers
  int64_t num_draws = 0;       ///< made so far
  std::vector<int32_t> pages;  ///< none: a row that only fills the batch up
  std::vector<int32_t> seen;   ///< bits [ceil(V / 32)] of its tokens where repetition is penalised, else empty
};

/// What decoding steps read and move on, at addresses that stay: entry r of each tensor belongs to row r.
struct DecodeRows {
  /// `num_seen_words`: ceil(V / 32) where repetition is penalised, else 0.
  DecodeRows(int64_t num_rows, int64_t pages_per_row, int64_t num_seen_words, bool has_log_probs, at::Device device);

  /// Rows [0, states.size()) become these. The pages of a row that has none are page 0.
  void write(const std::vector<RowState>& states);
  /// The pages and limits of these alone, between steps: the sequences have grown.
  void write_pages(const std::vector<RowState>& states);
  /// The first rows, as views.
  DecodeRows first(int64_t num_rows) const;
  /// A step's new token takes its place in the cache: lengths grow by one, but not beyond the limits.
  void advance();

  at::Tensor ids;                              ///< int64 [N]: the token that the next step reads
  at::Tensor lengths, limits, draws, streams;  ///< int64 [N]
  at::Tensor pages;                            ///< int32 [N, P]
  at::Tensor seen;                             ///< int32 [N, words]; undefined where there is no penalty
  at::Tensor log_probs;                        ///< fp32 [N]: of the tokens in ids; undefined where nobody asks

 private:
  DecodeRows() = default;
};

}  // namespace dsft::generate
