#include "generate/paged_cache.h"

#include "base/error.h"
#include "device/device.h"

namespace dsft::generate {

using kernels::kPageTokens;

int64_t pages_for(int64_t num_tokens) {
  return (num_tokens + kPageTokens - 1) / kPageTokens;
}

PagedCache::PagedCache(const spec::ModelSpec& spec, at::ScalarType dtype, at::Device device, int64_t num_pages) {
  DSFT_CHECK(num_pages > 1, num_pages, " pages");
  for (int64_t page = num_pages - 1; page > 0; --page) free_pages_.push_back(static_cast<int32_t>(page));
  const auto options = at::TensorOptions(dtype).device(device);
  for (int64_t layer = 0; layer < spec.num_hidden_layers; ++layer) {
    keys_.push_back(torch::empty({num_pages, spec.num_key_value_heads, kPageTokens, spec.head_dim}, options));
    values_.push_back(torch::empty_like(keys_.back()));
    const bool is_windowed =
        layer < static_cast<int64_t>(spec.uses_sliding_window.size()) && spec.uses_sliding_window[layer];
    windows_.push_back(is_windowed ? spec.sliding_window.value_or(0) : 0);
  }
}

int64_t PagedCache::page_bytes(const spec::ModelSpec& spec, at::ScalarType dtype) {
  return 2 * spec.num_hidden_layers * spec.num_key_value_heads * spec.head_dim * kPageTokens *
         static_cast<int64_t>(c10::elementSize(dtype));
}

std::vector<int32_t> PagedCache::take_pages(int64_t count) {
  DSFT_CHECK(count <= num_free_pages(), count, " pages of ", num_free_pages());
  std::vector<int32_t> pages(free_pages_.end() - count, free_pages_.end());
  free_pages_.resize(free_pages_.size() - static_cast<size_t>(count));
  return pages;
}

void PagedCache::give_back(const std::vector<int32_t>& pages) {
  free_pages_.insert(free_pages_.end(), pages.begin(), pages.end());
}

void PagedCache::begin_prefill(const std::vector<int64_t>& boundaries,
                               const std::vector<std::vector<int32_t>>& tables) {
  DSFT_CHECK(boundaries.size() == tables.size() + 1, tables.size(), " page tables, ", boundaries.size(), " boundaries");
  std::vector<int64_t> pages, offsets;
  for (size_t d = 0; d < tables.size(); ++d) {
    const int64_t length = boundaries[d + 1] - boundaries[d];
    DSFT_CHECK(pages_for(length) <= static_cast<int64_t>(tables[d].size()), tables[d].size(), " pages for ", length,
               " tokens");
    for (int64_t token = 0; token < length; ++token) {
      pages.push_back(tables[d][static_cast<size_t>(token / kPageTokens)]);
      offsets.push_back(token % kPageTokens);
    }
  }
  const at::Device device = keys_[0].device();
  documents_ = kernels::make_documents(boundaries, device);
  token_pages_ = device::copy_from_host(torch::tensor(pages, at::kLong), device);
  token_offsets_ = device::copy_from_host(torch::tensor(offsets, at::kLong), device);
}

void PagedCache::begin_decode(const kernels::PagedSequences& sequences) {
  documents_ = {};
  sequences_ = sequences;
}

at::Tensor PagedCache::attend(int64_t layer, const at::Tensor& qkv, const kernels::PackedHeads& heads,
                              const kernels::HeadNorms& norms, const kernels::RotaryAngles& angles, double scale) {
  at::Tensor &keys = keys_[layer], &values = values_[layer];
  if (documents_.boundaries.empty())
    return kernels::rotary_append_and_attend(qkv, heads, norms, angles, {keys, values, sequences_}, scale,
                                             windows_[layer]);
  const kernels::Heads turned = kernels::rotate_heads(qkv, heads, norms, angles);
  kernels::append_rows(turned.k, keys, token_pages_, token_offsets_);
  kernels::append_rows(turned.v, values, token_pages_, token_offsets_);
  return kernels::varlen_attention(turned.q, turned.k, turned.v, documents_, scale, windows_[layer])
      .reshape({qkv.size(0), -1});
}

}  // namespace dsft::generate
