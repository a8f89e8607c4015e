#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "nn/forward_context.h"
#include "spec/model_spec.h"

namespace dsft::generate {

/// Keys and values of up to `num_slots` sequences: per layer two tensors [slots, kv heads, capacity, D] whose capacity
/// grows by doubling. One forward pass is either a prefill of whole prompts into empty slots or one new token for each
/// of some slots.
class SlotCache final : public nn::KvCache {
 public:
  /// `max_length`: tokens that no sequence exceeds, so that doubling need not pass it.
  SlotCache(const spec::ModelSpec& spec, at::ScalarType dtype, at::Device device, int64_t num_slots,
            int64_t max_length);

  /// Bytes of one token of one sequence.
  static int64_t bytes_per_token(const spec::ModelSpec& spec, at::ScalarType dtype);

  /// The next forward pass holds one prompt for each slot, document by document; what the slots held before is
  /// forgotten.
  void begin_prefill(std::vector<int64_t> slots, std::vector<int64_t> boundaries);
  /// The next forward pass holds one new token for each slot.
  void begin_decode(std::vector<int64_t> slots);

  /// Tokens in a slot, those of the pass that was begun last included.
  int64_t length(int64_t slot) const { return lengths_[slot]; }
  int64_t capacity() const { return capacity_; }

  at::Tensor attend(int64_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    double scale) override;

 private:
  void reserve(int64_t length);
  void append_prompts(at::Tensor& cache, const at::Tensor& rows) const;
  void append_tokens(at::Tensor& cache, const at::Tensor& rows) const;

  std::vector<at::Tensor> keys_, values_;  // per layer
  std::vector<int64_t> windows_;           // per layer; 0: full attention
  std::vector<int64_t> lengths_;           // per slot
  int64_t capacity_ = 0, max_length_;
  // of the pass under way
  kernels::Documents documents_;  // empty in a decoding pass
  std::vector<int64_t> slots_, step_lengths_;
  at::Tensor slot_index_, token_index_;  // decoding: where the new tokens go
  at::Tensor step_length_index_;         // decoding: step_lengths_ on the device
};

}  // namespace dsft::generate
