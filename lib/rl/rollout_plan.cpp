#include "rl/rollout_plan.h"

#include <numeric>

#include "base/counter_random.h"
#include "base/error.h"

namespace dsft::rl {

RolloutPlan::RolloutPlan(GenerationBatch batch, data::EpochPlanOptions order, int64_t num_rows)
    : batch_(batch), order_(std::move(order)), num_rows_(num_rows) {
  const auto rows = static_cast<int64_t>(data::epoch_order(num_rows_, order_, /*epoch=*/0).size());
  rounds_per_epoch_ = rows / batch_.num_prompts();
  if (rounds_per_epoch_ == 0)
    fail(ErrorKind::kUsage, "data.train has ", rows, rows == 1 ? " row" : " rows",
         " an epoch, and a round of sampling takes ", batch_.num_prompts(), " (", batch_.describe(),
         "): give more rows, or lower per_device_train_batch_size, gradient_accumulation_steps, "
         "grpo.steps_per_generation or grpo.generation_batch_size, or raise grpo.num_generations");
}

int64_t RolloutPlan::updates_per_epoch() const {
  const int64_t accumulation = batch_.update.accumulation;
  return (steps_per_epoch() + accumulation - 1) / accumulation;
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
    slots.push_back({.row = rows[static_cast<size_t>(round * num_prompts + group)],
                     .group = group,
                     .generation = completion % batch_.num_generations,
                     .sample = round * total + completion});
  }
  return slots;
}

}  // namespace dsft::rl
