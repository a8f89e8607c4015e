#pragma once

#include <torch/types.h>

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/decode_attention.h"
#include "nn/forward_context.h"
#include "spec/model_spec.h"

namespace dsft::generate {

/// Pages that hold `num_tokens` of one sequence.
int64_t pages_for(int64_t num_tokens);

/// A sequence that one pass reads whole: a prompt, and maybe a part of its answer that was in the cache before.
struct PrefilledSequence {
  int64_t num_tokens = 0;
  int64_t num_prompt_tokens = 0;  ///< the first ones; those behind attend as each did when it was decoded
  std::vector<int32_t> pages;     ///< enough for all
};

/// Keys and values of many sequences: per layer two tensors [pages, K, kPageTokens, D], addressed by page tables, so
/// that a sequence takes what it needs wherever it is free. One forward pass is either a prefill of whole prompts or
/// one new token for each of some sequences.
class PagedCache final : public nn::KvCache {
 public:
  /// Without memory yet.
  PagedCache(const spec::ModelSpec& spec, at::ScalarType dtype, at::Device device, int64_t num_pages);

  /// Takes memory for all pages, where they have none. Whether they stand elsewhere than before, so that steps recorded
  /// earlier would read and write what is no longer theirs. Throws kDevice where so much is not free.
  bool take_memory();
  /// Gives the memory back: what the pages hold is lost. For other tensors it is free in the order of the stream.
  void give_back_memory();

  /// Bytes of one page, in all layers.
  static int64_t page_bytes(const spec::ModelSpec& spec, at::ScalarType dtype);

  /// Pages that no sequence holds.
  int64_t num_free_pages() const { return static_cast<int64_t>(free_pages_.size()); }
  /// Any `count` free pages. Page 0 is never among them: rows that belong to no sequence write there.
  std::vector<int32_t> take_pages(int64_t count);
  /// One holder more of pages that are held: sequences that begin alike.
  void share(std::span<const int32_t> pages);
  /// One holder less; a page that nobody holds is free again.
  void give_back(std::span<const int32_t> pages);
  /// Those that would be free if their holder gave them back.
  int64_t num_held_once(std::span<const int32_t> pages) const;
  /// Copies what some pages hold to others.
  void copy_pages(const std::vector<int64_t>& from, const std::vector<int64_t>& to);

  /// The next forward pass holds these sequences, one behind another.
  void begin_prefill(const std::vector<PrefilledSequence>& sequences);
  /// The next forward pass holds one new token for each of these sequences. The tensors are read when the pass runs.
  void begin_decode(const kernels::PagedSequences& sequences);

  at::Tensor attend(int64_t layer, const at::Tensor& qkv, const kernels::PackedHeads& heads,
                    const kernels::HeadNorms& norms, const kernels::RotaryAngles& angles, double scale) override;
  nn::KeptNarrowAdapters* adapters() override { return &adapters_; }

 private:
  spec::ModelSpec spec_;
  at::TensorOptions options_;
  int64_t num_pages_;
  const void* last_place_ = nullptr;       // of the memory
  std::vector<at::Tensor> keys_, values_;  // per layer, parts of one tensor; empty: no memory
  std::vector<int64_t> windows_;           // per layer; 0: full attention
  std::vector<int32_t> free_pages_;
  std::vector<int32_t> num_holders_;  // by page
  // of the pass under way
  kernels::Documents documents_;            // the prompts of a prefill; empty in a decoding pass
  at::Tensor token_pages_, token_offsets_;  // prefill: int64 [T], where the prompts' tokens go
  at::Tensor prompt_rows_, answer_rows_;    // prefill with parts of answers: int64, whose tokens stand where
  kernels::PagedSequences answers_;         // a row each; undefined: none
  kernels::PagedSequences sequences_;
  nn::KeptNarrowAdapters adapters_;
};

}  // namespace dsft::generate
