#include "generate/paged_cache.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

#include "base/error.h"
#include "device/device.h"
#include "kernels/row_products.h"

namespace dsft::generate {

using kernels::kPageTokens;

namespace {

std::string in_gib(double bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(2) << bytes / (int64_t{1} << 30);
  return out.str();
}

}  // namespace

PagedCache::PagedCache(const spec::ModelSpec& spec, at::ScalarType dtype, at::Device device, int64_t num_pages,
                       bool isolates_rows)
    : spec_(spec),
      options_(at::TensorOptions(dtype).device(device)),
      num_pages_(num_pages),
      isolates_rows_(isolates_rows || kernels::has_row_products(options_)),
      num_holders_(static_cast<size_t>(num_pages), 0) {
  DSFT_CHECK(num_pages > 1, num_pages, " pages");
  for (int64_t page = num_pages - 1; page > 0; --page) free_pages_.push_back(static_cast<int32_t>(page));
  for (int64_t layer = 0; layer < spec.num_hidden_layers; ++layer) {
    const bool is_windowed =
        layer < static_cast<int64_t>(spec.uses_sliding_window.size()) && spec.uses_sliding_window[layer];
    windows_.push_back(is_windowed ? spec.sliding_window.value_or(0) : 0);
  }
}

int64_t PagedCache::page_bytes(const spec::ModelSpec& spec, at::ScalarType dtype) {
  return 2 * spec.num_hidden_layers * spec.num_key_value_heads * spec.head_dim * kPageTokens *
         static_cast<int64_t>(c10::elementSize(dtype));
}

bool PagedCache::take_memory() {
  if (!keys_.empty()) return false;
  const double needed =
      static_cast<double>(num_pages_ * page_bytes(spec_, c10::typeMetaToScalarType(options_.dtype())));
  const auto free = static_cast<double>(device::free_memory_bytes(options_.device()));
  if (needed > free)
    fail(ErrorKind::kDevice, "keys and values of generated text need ", in_gib(needed), " GiB of memory, but only ",
         in_gib(free), " GiB are free now; give them less of it, generate shorter answers or free memory before.");
  const at::Tensor all = torch::empty(
      {2 * spec_.num_hidden_layers, num_pages_, spec_.num_key_value_heads, kPageTokens, spec_.head_dim}, options_);
  for (int64_t layer = 0; layer < spec_.num_hidden_layers; ++layer) {
    keys_.push_back(all[2 * layer]);
    values_.push_back(all[2 * layer + 1]);
  }
  const bool stands_elsewhere = last_place_ != nullptr && all.const_data_ptr() != last_place_;
  last_place_ = all.const_data_ptr();
  return stands_elsewhere;
}

void PagedCache::give_back_memory() {
  keys_.clear();
  values_.clear();
}

std::vector<int32_t> PagedCache::take_pages(int64_t count) {
  DSFT_CHECK(count <= num_free_pages(), count, " pages of ", num_free_pages());
  std::vector<int32_t> pages(free_pages_.end() - count, free_pages_.end());
  free_pages_.resize(free_pages_.size() - static_cast<size_t>(count));
  share(pages);
  return pages;
}

void PagedCache::share(std::span<const int32_t> pages) {
  for (const int32_t page : pages) ++num_holders_[static_cast<size_t>(page)];
}

void PagedCache::give_back(std::span<const int32_t> pages) {
  for (const int32_t page : pages)
    if (--num_holders_[static_cast<size_t>(page)] == 0) free_pages_.push_back(page);
}

int64_t PagedCache::num_held_once(std::span<const int32_t> pages) const {
  return std::count_if(pages.begin(), pages.end(),
                       [&](int32_t page) { return num_holders_[static_cast<size_t>(page)] == 1; });
}

void PagedCache::copy_pages(const std::vector<int64_t>& from, const std::vector<int64_t>& to) {
  if (from.empty()) return;
  const at::Tensor sources = device::copy_from_host(torch::tensor(from, at::kLong), options_.device()),
                   targets = device::copy_from_host(torch::tensor(to, at::kLong), options_.device());
  for (auto* caches : {&keys_, &values_})
    for (at::Tensor& cache : *caches) cache.index_copy_(0, targets, cache.index_select(0, sources));
}

void PagedCache::begin_prefill(const std::vector<kernels::PrefilledSequence>& sequences) {
  prefilled_ = kernels::place_tokens(sequences, options_.device(), isolates_rows_);
}

void PagedCache::begin_decode(const kernels::PagedSequences& sequences) {
  prefilled_.reset();
  sequences_ = sequences;
  sequences_.are_isolated = isolates_rows_;
}

at::Tensor PagedCache::attend(int64_t layer, const at::Tensor& qkv, const kernels::PackedHeads& heads,
                              const kernels::HeadNorms& norms, const kernels::RotaryAngles& angles, double scale) {
  const at::Tensor &keys = keys_[layer], &values = values_[layer];
  if (!prefilled_)
    return kernels::rotary_append_and_attend(qkv, heads, norms, angles, {keys, values, sequences_}, scale,
                                             windows_[layer]);
  const kernels::Heads turned = kernels::rotate_heads(qkv, heads, norms, angles);
  return kernels::append_and_attend(turned, keys, values, *prefilled_, scale, windows_[layer])
      .reshape({qkv.size(0), -1});
}

}  // namespace dsft::generate
