#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "kernels/decode_attention.h"
#include "nn/forward_context.h"
#include "spec/model_spec.h"

namespace dsft::generate {

/// Pages that hold `num_tokens` of one sequence.
int64_t pages_for(int64_t num_tokens);

/// Keys and values of many sequences: per layer two tensors [pages, K, kPageTokens, D], allocated once and addressed by
/// page tables, so that a sequence takes what it needs wherever it is free. One forward pass is either a prefill of
/// whole prompts or one new token for each of some sequences.
class PagedCache final : public nn::KvCache {
 public:
  PagedCache(const spec::ModelSpec& spec, at::ScalarType dtype, at::Device device, int64_t num_pages);

  /// Bytes of one page, in all layers.
  static int64_t page_bytes(const spec::ModelSpec& spec, at::ScalarType dtype);

  /// Pages that no sequence holds.
  int64_t num_free_pages() const { return static_cast<int64_t>(free_pages_.size()); }
  /// Any `count` free pages. Page 0 is never among them: rows that belong to no sequence write there.
  std::vector<int32_t> take_pages(int64_t count);
  /// Pages of a sequence that is done are free again.
  void give_back(const std::vector<int32_t>& pages);

  /// The next forward pass holds whole prompts, document by document; `tables` lists the pages of each.
  void begin_prefill(const std::vector<int64_t>& boundaries, const std::vector<std::vector<int32_t>>& tables);
  /// The next forward pass holds one new token for each of these sequences. The tensors are read when the pass runs.
  void begin_decode(const kernels::PagedSequences& sequences);

  at::Tensor attend(int64_t layer, const at::Tensor& qkv, const kernels::PackedHeads& heads,
                    const kernels::HeadNorms& norms, const kernels::RotaryAngles& angles, double scale) override;
  nn::KeptNarrowAdapters* adapters() override { return &adapters_; }

 private:
  std::vector<at::Tensor> keys_, values_;  // per layer
  std::vector<int64_t> windows_;           // per layer; 0: full attention
  std::vector<int32_t> free_pages_;
  // of the pass under way
  kernels::Documents documents_;            // empty in a decoding pass
  at::Tensor token_pages_, token_offsets_;  // prefill: int64 [T], where the prompts' tokens go
  kernels::PagedSequences sequences_;
  nn::KeptNarrowAdapters adapters_;
};

}  // namespace dsft::generate
