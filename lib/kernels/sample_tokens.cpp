#include "kernels/sample_tokens.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>

#include "base/counter_random.h"
#include "base/error.h"
#include "kernels/cuda_tensors.h"
#include "kernels/sample_tokens_cpu.h"
#include "kernels/sample_tokens_cuda.h"

namespace dsft::kernels {
namespace {

cpu::SamplingRule rule_of(const SamplingOptions& options, int64_t vocab_size) {
  return {.is_greedy = options.temperature <= 0,
          .inverse_temperature = options.temperature > 0 ? static_cast<float>(1 / options.temperature) : 1.0f,
          .top_k = options.top_k < vocab_size ? options.top_k : 0,
          .top_p = options.top_p,
          .min_p = options.min_p,
          .repetition_penalty = static_cast<float>(options.repetition_penalty)};
}

// body(row, its logits, its scores) for each row, on the CPU.
template <typename Body>
void for_each_row(const at::Tensor& logits, const at::Tensor& seen, const cpu::SamplingRule& rule, Body body) {
  const at::Tensor wide = logits.to(at::kCPU, at::kFloat).contiguous();
  const at::Tensor bits = seen.defined() ? seen.to(at::kCPU).contiguous() : seen;
  at::parallel_for(0, wide.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* of_row = wide.const_data_ptr<float>() + row * wide.size(1);
      body(row, of_row,
           cpu::sampling_scores(of_row, bits.defined() ? bits.const_data_ptr<int32_t>() + row * bits.size(1) : nullptr,
                                wide.size(1), rule));
    }
  });
}

at::Tensor sample_on_cpu(const at::Tensor& logits, const cpu::SamplingRule& rule, const DrawKeys& keys,
                         const at::Tensor& seen, const at::Tensor& log_probs) {
  const at::Tensor streams = keys.streams.contiguous(), draws = keys.draws.contiguous();
  at::Tensor tokens = at::empty({logits.size(0)}, at::kLong);
  for_each_row(logits, seen, rule, [&](int64_t row, const float* of_row, const std::vector<float>& scores) {
    const CounterStream stream(keys.seed, keys.purpose, static_cast<uint64_t>(streams.const_data_ptr<int64_t>()[row]));
    const int64_t token =
        rule.is_greedy ? std::max_element(scores.begin(), scores.end()) - scores.begin()
                       : cpu::draw_token(cpu::sampling_weights(scores, rule),
                                         stream.uniform(static_cast<uint64_t>(draws.const_data_ptr<int64_t>()[row])));
    tokens.data_ptr<int64_t>()[row] = token;
    if (log_probs.defined())
      log_probs.data_ptr<float>()[row] = cpu::sampling_log_prob(of_row, logits.size(1), token, rule);
  });
  return tokens;
}

at::Tensor sample_on_cuda(const at::Tensor& logits, const cpu::SamplingRule& rule, const DrawKeys& keys,
                          at::Tensor& seen, const at::Tensor& log_probs) {
  const at::Tensor dense = logits.contiguous(), streams = keys.streams.contiguous(), draws = keys.draws.contiguous();
  at::Tensor tokens = at::empty({logits.size(0)}, logits.options().dtype(at::kLong));
  const auto key = CounterStream(keys.seed, keys.purpose).key();
  cuda::sample_tokens({.logits = dense.const_data_ptr(),
                       .seen = seen.defined() ? seen.data_ptr<int32_t>() : nullptr,
                       .streams = streams.const_data_ptr<int64_t>(),
                       .draws = draws.const_data_ptr<int64_t>(),
                       .tokens = tokens.data_ptr<int64_t>(),
                       .log_probs = log_probs.defined() ? log_probs.data_ptr<float>() : nullptr,
                       .rows = logits.size(0),
                       .vocab_size = logits.size(1),
                       .key0 = key[0],
                       .key1 = key[1]},
                      rule, cuda::float_type(logits), cuda::stream_for(logits));
  return tokens;
}

void mark_seen(at::Tensor& seen, const at::Tensor& tokens) {
  for (int64_t row = 0; row < tokens.numel(); ++row) {
    const int64_t token = tokens.const_data_ptr<int64_t>()[row];
    int32_t& word = seen.data_ptr<int32_t>()[row * seen.size(1) + token / 32];
    word = static_cast<int32_t>(static_cast<uint32_t>(word) | uint32_t{1} << (token % 32));
  }
}

}  // namespace

at::Tensor sample_tokens(const at::Tensor& logits, const SamplingOptions& options, const DrawKeys& keys,
                         at::Tensor& seen, const at::Tensor& log_probs) {
  DSFT_CHECK(
      logits.dim() == 2 && logits.size(1) > 0 && keys.streams.numel() == logits.size(0) &&
          keys.draws.numel() == logits.size(0) && options.top_k >= 0 && logits.size(1) <= cpu::kMostTokens &&
          (logits.is_cpu() || cuda::takes(logits)) &&
          (!seen.defined() ||
           (seen.is_contiguous() && seen.size(0) == logits.size(0) && seen.size(1) == (logits.size(1) + 31) / 32)) &&
          (!log_probs.defined() || (log_probs.is_contiguous() && log_probs.scalar_type() == at::kFloat &&
                                    log_probs.numel() == logits.size(0) && log_probs.device() == logits.device())),
      "tokens of logits ", logits.sizes(), " by ", keys.streams.sizes(), " and ", keys.draws.sizes());
  const cpu::SamplingRule rule = rule_of(options, logits.size(1));
  if (cuda::takes(logits)) return sample_on_cuda(logits, rule, keys, seen, log_probs);
  const at::Tensor tokens = sample_on_cpu(logits, rule, keys, seen, log_probs);
  if (seen.defined()) mark_seen(seen, tokens);
  return tokens;
}

at::Tensor sampling_weights(const at::Tensor& logits, const SamplingOptions& options, const at::Tensor& seen) {
  const cpu::SamplingRule rule = rule_of(options, logits.size(1));
  at::Tensor weights = at::empty(logits.sizes(), at::kLong);
  for_each_row(logits, seen, rule, [&](int64_t row, const float*, const std::vector<float>& scores) {
    const std::vector<int64_t> of_row = cpu::sampling_weights(scores, rule);
    std::copy(of_row.begin(), of_row.end(), weights.data_ptr<int64_t>() + row * logits.size(1));
  });
  return weights;
}

}  // namespace dsft::kernels
