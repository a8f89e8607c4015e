#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/counter_dropout.h"
#include "kernels/prefill_attention.h"
#include "kernels/rotary_attention.h"
#include "nn/narrow_adapters.h"

namespace dsft::nn {

/// Keeps keys and values of earlier tokens and attends to them; generation implements it.
class KvCache {
 public:
  virtual ~KvCache() = default;

  /// Turns the heads of packed projections qkv [T, (N + 2 K) D] (kernels::rotate_heads), appends the keys and values of
  /// a layer to those of the sequences that the step was begun with, and attends: [T, N D].
  virtual at::Tensor attend(int64_t layer, const at::Tensor& qkv, const kernels::PackedHeads& heads,
                            const kernels::HeadNorms& norms, const kernels::RotaryAngles& angles, double scale) = 0;

  /// Whether a row of a pass depends on no other sequence to the bit (ForwardContext::isolates_rows).
  virtual bool isolates_rows() const { return false; }

  /// Where the passes of one generation keep their adapters.
  virtual KeptNarrowAdapters* adapters() { return nullptr; }
};

/// What every layer of one forward pass reads; shared by the blocks, so that a recomputation in the backward pass sees
/// the same.
struct ForwardContext {
  at::Tensor cos, sin;           ///< rotary tables of the tokens, fp32 [T, D/2]
  kernels::Documents documents;  ///< of the batch; empty where a cache knows them
  kernels::DropoutKeys dropout;  ///< sample_keys undefined: dropout is off (evaluation, generation)
  KvCache* cache = nullptr;      ///< where generation keeps keys and values; null in training
  /// Null, or how a pass without a cache attends so that it computes what isolated decoding did. Its gradients are
  /// those of attention to all documents at once.
  std::shared_ptr<const kernels::PrefilledTokens> as_decoded = {};
  KeptNarrowAdapters* adapters = nullptr;  ///< of a generation; null: made narrow in each pass
  bool isolates_rows = false;   ///< a row's products depend on no other row to the bit (kernels::multiply_each_row)
  bool recomputes_mlp = false;  ///< gate and up are not kept for the backward pass but computed again

  bool is_training() const { return dropout.sample_keys.defined(); }
  /// An evaluation without a cache is none: it rounds as training does.
  bool is_generating() const { return cache != nullptr && !at::GradMode::is_enabled(); }
};

/// Whether the values of a module's result are read, or only the graph behind it, in a block that is computed again
/// for its backward pass.
enum class Values { kRead, kUnread };

using ForwardContextPtr = std::shared_ptr<const ForwardContext>;

}  // namespace dsft::nn
