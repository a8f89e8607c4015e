#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "config/words.h"

namespace dsft::config {
class Fields;
class Section;
}  // namespace dsft::config

namespace dsft::zero {

enum class OffloadDevice { kNone, kCpu };

constexpr auto words_of(OffloadDevice) {
  return std::to_array<config::Word<OffloadDevice>>({{"none", OffloadDevice::kNone}, {"cpu", OffloadDevice::kCpu}});
}

struct OffloadConfig {
  OffloadDevice device = OffloadDevice::kNone;
  bool pin_memory = true;
};

/// The recipe's section `zero` (DeepSpeed's zero_optimization).
struct ZeroConfig {
  int64_t stage = 0;
  OffloadConfig offload_optimizer;
  OffloadConfig offload_param;
  bool overlap_comm = true;
  bool contiguous_gradients = true;
  int64_t reduce_bucket_size = 500'000'000;     ///< elements
  int64_t allgather_bucket_size = 500'000'000;  ///< elements
  int64_t stage3_prefetch_bucket_size = 50'000'000;
  int64_t stage3_param_persistence_threshold = 100'000;
  int64_t stage3_max_live_parameters = 1'000'000'000;
  int64_t stage3_max_reuse_distance = 1'000'000'000;
  bool stage3_gather_16bit_weights_on_model_save = true;
};

void describe_fields(config::Fields& fields, OffloadConfig& config);
void describe_fields(config::Fields& fields, ZeroConfig& config);
/// What is not built, and keys without effect at this stage.
void validate(const ZeroConfig& config, config::Section& section);

}  // namespace dsft::zero
