#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace dsft::kernels {

/// How the next token is chosen. The steps come in transformers' order: repetition penalty, temperature, top-k, top-p,
/// min-p; a value that changes nothing is a step left out.
struct SamplingOptions {
  double temperature = 0.0;         ///< 0: greedy, the filters below have no effect
  int64_t top_k = 0;                ///< 0: all tokens; tokens that tie with the last of them stay too
  double top_p = 1.0;               ///< a token stays while those above it hold less than this share
  double min_p = 0.0;               ///< of the likeliest token's probability
  double repetition_penalty = 1.0;  ///< also in greedy search, over prompt and answer (Keskar et al. 2019): divides
                                    ///< positive and multiplies negative logits of tokens seen before
};

/// What names the random number of each row: number draws[s] of the stream of that key and streams[s] (CounterStream).
struct DrawKeys {
  uint64_t seed = 0, purpose = 0;
  at::Tensor streams, draws;  ///< int64 [S]
};

/// The next token of each sequence, int64 [S], for logits [S, V] of any float type (fp32 or 16 bits on a GPU), V at
/// most 2^21. Among equal logits greedy search takes the first. A draw is exact arithmetic: a token's weight is
/// exp(score - highest score) in units of 2^-40, sums of weights are integers, and the token is the first whose running
/// sum of kept weights, in the order of the vocabulary, goes beyond the random number's share of the total; so neither
/// batch nor order of summation matter. `seen`: bits int32 [S, ceil(V / 32)] of the tokens that a repetition penalty
/// holds for, and it gains the chosen token; undefined where there is none. `log_probs`: contiguous fp32 [S], written:
/// ln of the chosen token's share of softmax(logits / temperature) over the whole vocabulary, before penalty and
/// filters, as a trainer computes it (temperature 1 where the choice is greedy); undefined: not computed. Does not ask
/// the device for a number.
at::Tensor sample_tokens(const at::Tensor& logits, const SamplingOptions& options, const DrawKeys& keys,
                         at::Tensor& seen, const at::Tensor& log_probs = {});

/// The weights that a draw chooses by, int64 [S, V]: 0 for a token that a filter took away. Reference on the CPU.
at::Tensor sampling_weights(const at::Tensor& logits, const SamplingOptions& options, const at::Tensor& seen);

}  // namespace dsft::kernels
