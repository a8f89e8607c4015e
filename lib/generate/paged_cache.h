#pragma once

#include <torch/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/prefill_attention.h"
#include "nn/forward_context.h"
#include "spec/model_spec.h"

namespace dsft::generate {

/// Keys and values of many sequences: per layer two tensors [pages, K, kPageTokens, D], addressed by page tables, so
/// that a sequence takes what it needs wherever it is free. One forward pass is either a prefill of whole prompts or
/// one new token for each of some sequences.
class PagedCache final : public nn::KvCache {
 public:
  /// Without memory yet. `isolates_rows`: as KvCache says; in fp32 on the CPU it does so in any case.
  PagedCache(const spec::ModelSpec& spec, at::ScalarType dtype, at::Device device, int64_t num_pages,
             bool isolates_rows = false);

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
  void begin_prefill(const std::vector<kernels::PrefilledSequence>& sequences);
  /// The next forward pass holds one new token for each of these sequences. The tensors are read when the pass runs.
  void begin_decode(const kernels::PagedSequences& sequences);

  at::Tensor attend(int64_t layer, const at::Tensor& qkv, const kernels::PackedHeads& heads,
                    const kernels::HeadNorms& norms, const kernels::RotaryAngles& angles, double scale) override;
  nn::KeptNarrowAdapters* adapters() override { return &adapters_; }
  bool isolates_rows() const override { return isolates_rows_; }

 private:
  spec::ModelSpec spec_;
  at::TensorOptions options_;
  int64_t num_pages_;
  bool isolates_rows_;
  const void* last_place_ = nullptr;       // of the memory
  std::vector<at::Tensor> keys_, values_;  // per layer, parts of one tensor; empty: no memory
  std::vector<int64_t> windows_;           // per layer; 0: full attention
  std::vector<int32_t> free_pages_;
  std::vector<int32_t> num_holders_;  // by page
  // of the pass under way
  std::optional<kernels::PrefilledTokens> prefilled_;  // null in a decoding pass
  kernels::PagedSequences sequences_;
  nn::KeptNarrowAdapters adapters_;
};

}  // namespace dsft::generate
