#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "config/words.h"

namespace dsft::config {
class Fields;
class Section;
}  // namespace dsft::config

namespace dsft::spec {

/// Type of weights and arithmetic.
enum class ComputeDtype { kBf16, kFp16, kFp32 };

constexpr auto words_of(ComputeDtype) {
  return std::to_array<config::Word<ComputeDtype>>(
      {{"bf16", ComputeDtype::kBf16}, {"fp16", ComputeDtype::kFp16}, {"fp32", ComputeDtype::kFp32}});
}

/// transformers' names of attention; each device here has one, which they all mean.
constexpr auto kPeersAttention =
    std::to_array<std::string_view>({"sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"});

/// The recipe's section `model` (from_pretrained's names).
struct ModelConfig {
  std::string path;                          ///< a directory, or a hub id in the local Hugging Face cache
  std::string revision;                      ///< branch or commit in the cache; empty: refs/main
  std::optional<ComputeDtype> dtype;         ///< resolved: bf16 on CUDA, fp32 on CPU
  std::string attn_implementation = "auto";  ///< "auto", or a name that `dsft env` lists
};

void describe_fields(config::Fields& fields, ModelConfig& config);
/// Names of attention that are not built, or have no effect.
void validate(const ModelConfig& config, config::Section& section);

}  // namespace dsft::spec
