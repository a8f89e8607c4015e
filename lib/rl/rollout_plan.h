#pragma once

#include <cstdint>
#include <vector>

#include "data/epoch_plan.h"
#include "rl/generation_batch.h"

namespace dsft::rl {

/// A completion that a round samples, named before it is.
struct Slot {
  int64_t row = 0;         ///< of the prompts: of PromptRows::rows
  int64_t group = 0;       ///< of the round: an agent's answers to one of its prompts
  int64_t generation = 0;  ///< the group's n-th answer
  int64_t sample = 0;      ///< the n-th completion of the epoch
};

/// Which prompts the rounds of an epoch take, which rank samples and trains which completion, and in which micro-batch:
/// a pure function of (seed, epoch, round), so that for one batch the same completions are in an update whatever the
/// number of ranks. As TRL's RepeatSampler, a round takes the next prompts of the epoch's order, and what is left at
/// its end is not used.
class RolloutPlan {
 public:
  /// `num_rows`: of the data. Throws kUsage where there are fewer than a round has prompts.
  RolloutPlan(GenerationBatch batch, data::EpochPlanOptions order, int64_t num_rows);

  const GenerationBatch& batch() const { return batch_; }

  int64_t rounds_per_epoch() const { return rounds_per_epoch_; }
  int64_t steps_per_round() const { return batch_.steps_per_round(); }
  int64_t steps_per_epoch() const { return rounds_per_epoch_ * steps_per_round(); }
  int64_t updates_per_epoch() const { return batch_.updates_of(rounds_per_epoch_); }

  /// What a rank samples in a round: its micro-batches, one behind the other.
  std::vector<Slot> slots(int64_t epoch, int64_t round, int64_t rank) const;

 private:
  GenerationBatch batch_;
  data::EpochPlanOptions order_;
  int64_t num_rows_, rounds_per_epoch_;
};

}  // namespace dsft::rl
