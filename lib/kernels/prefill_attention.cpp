#include "kernels/prefill_attention.h"

#include <torch/types.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "device/device.h"

namespace dsft::kernels {

int64_t pages_for(int64_t num_tokens) {
  return (num_tokens + kPageTokens - 1) / kPageTokens;
}

PrefilledTokens place_tokens(const std::vector<PrefilledSequence>& sequences, at::Device device, bool are_isolated) {
  const auto to_device = [&](const std::vector<int64_t>& values) {
    return device::copy_from_host(torch::tensor(values, at::kLong), device);
  };
  std::vector<int64_t> pages, offsets, boundaries = {0}, prompt_rows, answer_rows, answer_lengths, answer_sequences;
  std::vector<int32_t> tables;
  PrefilledTokens tokens;
  size_t width = 1;
  for (const auto& sequence : sequences) width = std::max(width, sequence.pages.size());
  for (const auto& sequence : sequences) {
    DSFT_CHECK(sequence.num_prompt_tokens <= sequence.num_tokens &&
                   pages_for(sequence.num_tokens) <= static_cast<int64_t>(sequence.pages.size()),
               sequence.pages.size(), " pages for ", sequence.num_tokens, " tokens, ", sequence.num_prompt_tokens,
               " of them a prompt");
    for (int64_t token = 0; token < sequence.num_tokens; ++token) {
      const auto row = static_cast<int64_t>(pages.size());
      pages.push_back(sequence.pages[static_cast<size_t>(token / kPageTokens)]);
      offsets.push_back(token % kPageTokens);
      tokens.num_pages = std::max(tokens.num_pages, pages.back() + 1);
      if (token < sequence.num_prompt_tokens) {
        prompt_rows.push_back(row);
        continue;
      }
      answer_rows.push_back(row);
      answer_lengths.push_back(token + 1);
      answer_sequences.push_back(static_cast<int64_t>(tables.size() / width));
    }
    boundaries.push_back(boundaries.back() + sequence.num_prompt_tokens);
    tables.insert(tables.end(), sequence.pages.begin(), sequence.pages.end());
    tables.resize((tables.size() + width - 1) / width * width);
  }
  tokens.prompts = make_documents(boundaries, device);
  tokens.prompts.are_isolated = are_isolated;
  if (!answer_rows.empty()) {
    tokens.prompt_rows = to_device(prompt_rows);
    tokens.answer_rows = to_device(answer_rows);
    std::vector<int64_t> order(pages.size());
    for (size_t i = 0; i < prompt_rows.size(); ++i)
      order[static_cast<size_t>(prompt_rows[i])] = static_cast<int64_t>(i);
    for (size_t i = 0; i < answer_rows.size(); ++i)
      order[static_cast<size_t>(answer_rows[i])] = static_cast<int64_t>(prompt_rows.size() + i);
    tokens.order = to_device(order);
    const at::Tensor table = torch::tensor(tables, at::kInt).view({-1, static_cast<int64_t>(width)});
    tokens.answers = {device::copy_from_host(table.index_select(0, torch::tensor(answer_sequences, at::kLong)), device),
                      to_device(answer_lengths), are_isolated};
  }
  tokens.pages = to_device(pages);
  tokens.offsets = to_device(offsets);
  return tokens;
}

PrefilledTokens place_as_decoded(const std::vector<int64_t>& boundaries, const std::vector<int64_t>& prompt_lengths,
                                 at::Device device) {
  DSFT_CHECK(prompt_lengths.size() + 1 == boundaries.size(), prompt_lengths.size(), " prompts of ", boundaries.size(),
             " boundaries");
  std::vector<PrefilledSequence> sequences;
  int32_t next_page = 0;
  for (size_t d = 0; d < prompt_lengths.size(); ++d) {
    PrefilledSequence sequence{boundaries[d + 1] - boundaries[d], prompt_lengths[d], {}};
    sequence.pages.resize(static_cast<size_t>(pages_for(sequence.num_tokens)));
    std::iota(sequence.pages.begin(), sequence.pages.end(), next_page);
    next_page += static_cast<int32_t>(sequence.pages.size());
    sequences.push_back(std::move(sequence));
  }
  return place_tokens(sequences, device, /*are_isolated=*/true);
}

at::Tensor append_and_attend(const Heads& heads, at::Tensor keys, at::Tensor values, const PrefilledTokens& tokens,
                             double scale, int64_t window) {
  append_rows(heads.k, keys, tokens.pages, tokens.offsets);
  append_rows(heads.v, values, tokens.pages, tokens.offsets);
  if (!tokens.answers.pages.defined())
    return varlen_attention(heads.q, heads.k, heads.v, tokens.prompts, scale, window);
  const auto rows_of = [&](const at::Tensor& rows) {
    return Heads{heads.q.index_select(0, rows), heads.k.index_select(0, rows), heads.v.index_select(0, rows)};
  };
  const Heads prompts = rows_of(tokens.prompt_rows), answers = rows_of(tokens.answer_rows);
  return torch::cat({varlen_attention(prompts.q, prompts.k, prompts.v, tokens.prompts, scale, window),
                     append_and_attend(answers, {keys, values, tokens.answers}, scale, window)})
      .index_select(0, tokens.order);
}

at::Tensor attend_as_decoded(const Heads& heads, const PrefilledTokens& tokens, double scale, int64_t window) {
  const at::Tensor cache =
      torch::empty({2, tokens.num_pages, heads.k.size(1), kPageTokens, heads.k.size(2)}, heads.k.options());
  return append_and_attend(heads, cache[0], cache[1], tokens, scale, window);
}

}  // namespace dsft::kernels
