#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "spec/model_spec.h"

namespace dsft::estimate {

/// The shape of a published checkpoint.
struct NamedShape {
  std::string_view name;
  std::string_view model_type;
  int64_t hidden_size, intermediate_size, num_layers, num_heads, num_kv_heads, head_dim, vocab_size;
  bool is_tied;
};

/// Shapes that sizes are made of, the smallest first.
std::span<const NamedShape> named_shapes();

/// The spec of a shape; `name` must be one of them.
spec::ModelSpec spec_of(std::string_view name);

/// A model of about so many parameters, and what it is like.
struct SizedModel {
  spec::ModelSpec spec;
  std::string description;  ///< "7.0B parameters in the proportions of Qwen2.5-7B"
};

/// Scales the shape whose size is nearest: the same layers and head size, the width for the size; within 1 % of
/// `num_params`.
SizedModel model_of_size(int64_t num_params);

/// Reads "7B", "0.6B", "350M" or a plain number. Throws kUsage for anything else and for sizes outside 1M .. 10T.
int64_t parse_size(const std::string& text);

/// Parameters of a checkpoint, a tied pair once.
int64_t num_params(const spec::ModelSpec& spec);

/// "6.7B", "596M".
std::string to_size(int64_t num_params);

}  // namespace dsft::estimate
