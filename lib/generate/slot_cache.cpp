#include "generate/slot_cache.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/decode_attention.h"

namespace dsft::generate {
namespace {

constexpr int64_t kSmallestCapacity = 64;

}  // namespace

SlotCache::SlotCache(const spec::ModelSpec& spec, at::ScalarType dtype, at::Device device, int64_t num_slots,
                     int64_t max_length)
    : lengths_(static_cast<size_t>(num_slots), 0), max_length_(max_length) {
  const auto options = at::TensorOptions(dtype).device(device);
  for (int64_t layer = 0; layer < spec.num_hidden_layers; ++layer) {
    keys_.push_back(torch::empty({num_slots, spec.num_key_value_heads, 0, spec.head_dim}, options));
    values_.push_back(torch::empty_like(keys_.back()));
    const bool is_windowed =
        layer < static_cast<int64_t>(spec.uses_sliding_window.size()) && spec.uses_sliding_window[layer];
    windows_.push_back(is_windowed ? spec.sliding_window.value_or(0) : 0);
  }
}

int64_t SlotCache::bytes_per_token(const spec::ModelSpec& spec, at::ScalarType dtype) {
  return 2 * spec.num_hidden_layers * spec.num_key_value_heads * spec.head_dim *
         static_cast<int64_t>(c10::elementSize(dtype));
}

void SlotCache::begin_prefill(std::vector<int64_t> slots, std::vector<int64_t> boundaries) {
  DSFT_CHECK(boundaries.size() == slots.size() + 1, slots.size(), " slots, ", boundaries.size(), " boundaries");
  slots_ = std::move(slots);
  documents_ = kernels::make_documents(std::move(boundaries), keys_[0].device());
  int64_t longest = 0;
  for (size_t s = 0; s < slots_.size(); ++s) {
    lengths_[slots_[s]] = documents_.boundaries[s + 1] - documents_.boundaries[s];
    longest = std::max(longest, lengths_[slots_[s]]);
  }
  reserve(longest);
}

void SlotCache::begin_decode(std::vector<int64_t> slots) {
  slots_ = std::move(slots);
  documents_ = {};
  step_lengths_.clear();
  std::vector<int64_t> places;
  for (const int64_t slot : slots_) {
    places.push_back(lengths_[slot]);
    step_lengths_.push_back(++lengths_[slot]);
  }
  reserve(*std::max_element(step_lengths_.begin(), step_lengths_.end()));
  const at::Device device = keys_[0].device();
  slot_index_ = torch::tensor(slots_, at::kLong).to(device);
  token_index_ = torch::tensor(places, at::kLong).to(device);
  step_length_index_ = token_index_ + 1;
}

void SlotCache::reserve(int64_t length) {
  if (length <= capacity_) return;
  int64_t grown = std::max(capacity_, kSmallestCapacity);
  while (grown < length) grown *= 2;
  grown = std::max(length, std::min(grown, max_length_));
  for (auto* caches : {&keys_, &values_}) {
    for (at::Tensor& cache : *caches) {
      at::Tensor larger = torch::empty({cache.size(0), cache.size(1), grown, cache.size(3)}, cache.options());
      larger.narrow(2, 0, capacity_).copy_(cache);
      cache = larger;
    }
  }
  capacity_ = grown;
}

void SlotCache::append_prompts(at::Tensor& cache, const at::Tensor& rows) const {
  for (size_t s = 0; s < slots_.size(); ++s) {
    const int64_t length = documents_.boundaries[s + 1] - documents_.boundaries[s];
    cache[slots_[s]].narrow(1, 0, length).copy_(rows.narrow(0, documents_.boundaries[s], length).transpose(0, 1));
  }
}

void SlotCache::append_tokens(at::Tensor& cache, const at::Tensor& rows) const {
  using torch::indexing::Slice;
  cache.index_put_({slot_index_, Slice(), token_index_}, rows);
}

at::Tensor SlotCache::attend(int64_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             double scale) {
  at::Tensor &keys = keys_[layer], &values = values_[layer];
  if (!documents_.boundaries.empty()) {
    append_prompts(keys, k);
    append_prompts(values, v);
    return kernels::varlen_attention(q, k, v, documents_, scale, windows_[layer]);
  }
  if (const auto attended =
          kernels::append_and_attend(q, k, v, keys, values, slot_index_, step_length_index_, scale, windows_[layer]))
    return *attended;
  append_tokens(keys, k);
  append_tokens(values, v);
  return kernels::decode_attention(q, keys, values, slots_, step_lengths_, scale, windows_[layer]);
}

}  // namespace dsft::generate
