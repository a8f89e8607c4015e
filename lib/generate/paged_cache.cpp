#include "generate/paged_cache.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

#include "base/error.h"
#include "device/device.h"

namespace dsft::generate {

using kernels::kPageTokens;

namespace {

std::string in_gib(double bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(2) << bytes / (int64_t{1} << 30);
  return out.str();
}

}  // namespace

int64_t pages_for(int64_t num_tokens) {
  return (num_tokens + kPageTokens - 1) / kPageTokens;
}

PagedCache::PagedCache(const spec::ModelSpec& spec, at::ScalarType dtype, at::Device device, int64_t num_pages)
    : spec_(spec),
      options_(at::TensorOptions(dtype).device(device)),
      num_pages_(num_pages),
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

void PagedCache::begin_prefill(const std::vector<PrefilledSequence>& sequences) {
  const at::Device device = options_.device();
  const auto to_device = [&](const std::vector<int64_t>& values) {
    return device::copy_from_host(torch::tensor(values, at::kLong), device);
  };
  std::vector<int64_t> pages, offsets, boundaries = {0}, prompt_rows, answer_rows, answer_lengths, answer_sequences;
  std::vector<int32_t> tables;
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
  documents_ = kernels::make_documents(boundaries, device);
  answers_ = {};
  if (!answer_rows.empty()) {
    prompt_rows_ = to_device(prompt_rows);
    answer_rows_ = to_device(answer_rows);
    const at::Tensor table = torch::tensor(tables, at::kInt).view({-1, static_cast<int64_t>(width)});
    answers_ = {device::copy_from_host(table.index_select(0, torch::tensor(answer_sequences, at::kLong)), device),
                to_device(answer_lengths)};
  }
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
  if (!answers_.pages.defined())
    return kernels::varlen_attention(turned.q, turned.k, turned.v, documents_, scale, windows_[layer])
        .reshape({qkv.size(0), -1});
  const auto rows_of = [&](const at::Tensor& rows) {
    return kernels::Heads{turned.q.index_select(0, rows), turned.k.index_select(0, rows),
                          turned.v.index_select(0, rows)};
  };
  const kernels::Heads prompts = rows_of(prompt_rows_), answers = rows_of(answer_rows_);
  at::Tensor out = torch::empty({qkv.size(0), turned.q.size(1), turned.q.size(2)}, turned.q.options());
  out.index_copy_(0, prompt_rows_,
                  kernels::varlen_attention(prompts.q, prompts.k, prompts.v, documents_, scale, windows_[layer]));
  out.index_copy_(0, answer_rows_,
                  kernels::append_and_attend(answers, {keys, values, answers_}, scale, windows_[layer]));
  return out.view({qkv.size(0), -1});
}

}  // namespace dsft::generate
