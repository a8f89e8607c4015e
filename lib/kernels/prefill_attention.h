#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/decode_attention.h"

namespace dsft::kernels {

/// Pages that hold `num_tokens` of one sequence.
int64_t pages_for(int64_t num_tokens);

/// A sequence that one pass reads whole: a prompt, and maybe a part of its answer that was decoded before.
struct PrefilledSequence {
  int64_t num_tokens = 0;
  int64_t num_prompt_tokens = 0;  ///< the first ones; those behind attend as each did when it was decoded
  std::vector<int32_t> pages;     ///< enough for all
};

/// The T tokens of whole sequences, laid end to end: where their keys and values go, and how each attends.
struct PrefilledTokens {
  at::Tensor pages, offsets;  ///< int64 [T]: the page of each token and its place there
  Documents prompts;          ///< one behind another, without the answers
  at::Tensor prompt_rows,
      answer_rows;         ///< int64: which tokens belong to prompts and to answers; undefined: all to prompts
  PagedSequences answers;  ///< a row for each token of an answer
  at::Tensor order;        ///< int64 [T]: the place of each among all of prompts, then of answers
  int64_t num_pages = 0;   ///< 1 + the largest
};

/// `are_isolated`: no token's result depends on another sequence to the bit.
PrefilledTokens place_tokens(const std::vector<PrefilledSequence>& sequences, at::Device device, bool are_isolated);

/// Isolated documents of these boundaries [S + 1], each beginning with so many tokens of a prompt, in pages of their
/// own: a pass over them computes what one isolated decoding step after another did, to the bit.
PrefilledTokens place_as_decoded(const std::vector<int64_t>& boundaries, const std::vector<int64_t>& prompt_lengths,
                                 at::Device device);

/// Writes keys and values to their places in a cache [pages, K, kPageTokens, D] each, and attends: prompts by
/// varlen_attention, a token of an answer as append_and_attend lets it. heads: q [T, N, D], k and v [T, K, D]; gives
/// [T, N, D]. Without gradient.
at::Tensor append_and_attend(const Heads& heads, at::Tensor keys, at::Tensor values, const PrefilledTokens& tokens,
                             double scale, int64_t window = 0);

/// The same with a cache that lasts for the call.
at::Tensor attend_as_decoded(const Heads& heads, const PrefilledTokens& tokens, double scale, int64_t window = 0);

}  // namespace dsft::kernels
