#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "estimate/memory.h"

namespace dsft::estimate {

/// So many GPUs of one name.
struct GpuSet {
  int64_t count = 1;
  std::string_view gpu;  ///< of named_gpus()
};

/// A row of the model-size guide as it is published, and the shape that stands for its sizes here.
struct GuideRow {
  std::string_view sizes;   ///< "1-7B"
  std::string_view advice;  ///< "stage 2 + offload"
  std::string_view memory;  ///< "16-24 GB"
  std::string_view gpus;    ///< "2x RTX 4090"
  Placement placement;      ///< what the advice means; the number of GPUs is the set's
  std::vector<GpuSet> sets;
  std::string_view shape;  ///< of named_shapes()
};

std::span<const GuideRow> model_size_guide();

/// What the computation says of one of a row's sets of GPUs.
struct SetOutcome {
  GpuSet set;
  MemoryEstimate advised;  ///< full fine-tuning as the guide advises
  bool advised_fits = false;
  std::optional<MemoryEstimate> first;  ///< the first of all_placements() that fits; none: none does
};

/// A row computed.
struct SizeRow {
  GuideRow guide;
  int64_t num_params = 0;
  std::vector<SetOutcome> outcomes;
  MemoryEstimate lora;  ///< LoRA r = 16 on all linear layers, stage 0, one GPU
  std::string reason;   ///< a sentence for each set
};

/// Computes a row for a model of this shape: bf16, a micro-batch of one row of 2048 tokens, whole layers recomputed.
SizeRow compute_row(const GuideRow& guide, const spec::ModelSpec& shape);

/// All rows, each for its own shape.
std::vector<SizeRow> compute_table();

}  // namespace dsft::estimate
