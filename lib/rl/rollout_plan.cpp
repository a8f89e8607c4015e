#include "rl/rollout_plan.h"

#include <numeric>

#include "base/counter_random.h"

namespace dsft::rl {

RolloutPlan::RolloutPlan(GenerationBatch batch, data::EpochPlanOptions order, int64_t num_rows)
    : batch_(batch), order_(std::move(order)), num_rows_(num_rows) {
  rounds_per_epoch_ =
      batch_.rounds_per_epoch(static_cast<int64_t>(data::epoch_order(num_rows_, order_, /*epoch=*/0).size()));
}

std::vector<Slot> RolloutPlan::slots(int64_t epoch, int64_t round, int64_t rank) const {
  const std::vector<int64_t> rows = data::epoch_order(num_rows_, order_, epoch);
  const int64_t num_prompts = batch_.num_prompts(), total = batch_.num_completions();
  // an update that takes the whole round has it in any order: each rank then answers its own prompts
  const bool is_one_update = batch_.is_on_policy();
  std::vector<int64_t> order(static_cast<size_t>(total));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (!is_one_update) {
    const auto part = static_cast<uint64_t>(epoch * rounds_per_epoch_ + round);
    order = CounterStream(order_.seed, hash_name("completions of a round"), part).permutation(total);
  }
  const int64_t per_micro_batch = batch_.update.per_micro_batch, per_rank = total / batch_.update.num_ranks;
  std::vector<Slot> slots;
  for (int64_t i = 0; i < per_rank; ++i) {
    const int64_t step = i / per_micro_batch, place = i % per_micro_batch;
    const int64_t index =
        is_one_update ? rank * per_rank + i : (step * batch_.update.num_ranks + rank) * per_micro_batch + place;
    const int64_t completion = order[static_cast<size_t>(index)], group = completion / batch_.num_generations;
    const int64_t row = rows[static_cast<size_t>(round * num_prompts + batch_.prompt_of(group))];
    slots.push_back({.row = row * batch_.num_agents + batch_.agent_of(group),
                     .group = group,
                     .generation = completion % batch_.num_generations,
                     .sample = round * total + completion});
  }
  return slots;
}

}  // namespace dsft::rl
