#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "estimate/finding.h"

namespace dsft::estimate {

/// What of a recipe says how many completions a round of sampling has.
enum class RoundKey { kGradientAccumulation, kStepsPerGeneration, kGenerationBatchSize };

/// The sampling of a GRPO run that has ended: what the recipe says of it, and what a typical step showed.
struct MeasuredSampling {
  int64_t num_sequences = 0;         ///< completions of a round on a rank
  int64_t steps_per_generation = 1;  ///< micro-batches of these
  RoundKey sized_by = RoundKey::kGradientAccumulation;
  double rounds_of_update = 1;  ///< below 1 where a round serves several
  bool is_on_gpu = true;
  std::vector<std::string> programs = {};  ///< rewards that are programs: "concise (workers: 2)"
  int64_t max_completion_length = 0;       ///< tokens
  bool masks_truncated = false;            ///< grpo.mask_truncated_completions

  double step_s = 0;          ///< of an update with its share of a round
  double rollout_s = 0;       ///< of these before its first pass: sampling, rewards, scores of other policies
  double waiting_s = 0;       ///< of these for rewards, nothing being sampled any more
  double zero_deviation = 0;  ///< share of groups whose completions have equal rewards
  double truncated = 0;       ///< share of completions that ended at max_completion_length
};

/// What slowed the sampling, or left little to learn from it: waiting for rewards, rounds of few completions, groups of
/// equal rewards, completions that were cut. In no order.
std::vector<Finding> sampling_findings(const MeasuredSampling& run);

}  // namespace dsft::estimate
