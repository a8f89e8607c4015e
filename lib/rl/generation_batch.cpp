#include "rl/generation_batch.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "optim/schedule_config.h"

namespace dsft::rl {
namespace {

std::string per_step(const UpdateRows& update) {
  return concat("per_device_train_batch_size ", update.per_micro_batch, " x ", update.num_ranks,
                update.num_ranks == 1 ? " rank" : " ranks");
}

}  // namespace

std::string GenerationBatch::describe() const {
  const bool is_one = steps_per_generation == 1;
  std::string text =
      concat(num_prompts(), num_prompts() == 1 ? " prompt x " : " prompts x ",
             num_agents == 1 ? std::string() : concat(num_agents, " agents x "), num_generations,
             " completions = ", num_completions(), " rows = ", update.per_micro_batch, " (micro-batch) x ",
             steps_per_generation, is_one ? " (step of a generation) x " : " (steps of a generation) x ",
             update.num_ranks, update.num_ranks == 1 ? " (rank)" : " (ranks)", "; an update takes ",
             update.per_micro_batch * update.accumulation * update.num_ranks, " of them");
  if (num_iterations > 1) text += concat(", each is used ", num_iterations, " times");
  return text + (is_on_policy() ? "; on-policy: every ratio is 1"
                                : "; off-policy after the first update: ratios are "
                                  "taken to the policy that sampled");
}

int64_t GenerationBatch::rounds_per_epoch(int64_t num_rows) const {
  const int64_t num_rounds = num_rows / num_prompts();
  if (num_rounds == 0)
    fail(ErrorKind::kUsage, "data.train has ", num_rows, num_rows == 1 ? " row" : " rows",
         " an epoch, and a round of sampling takes ", num_prompts(), " (", describe(),
         "): give more rows, or lower per_device_train_batch_size, gradient_accumulation_steps, "
         "grpo.steps_per_generation or grpo.generation_batch_size, or raise grpo.num_generations");
  return num_rounds;
}

int64_t GenerationBatch::count_updates(int64_t max_steps, double num_epochs, int64_t rounds_per_epoch) const {
  if (max_steps > 0) return max_steps;
  const double updates = std::ceil(num_epochs * static_cast<double>(updates_of(rounds_per_epoch)));
  if (!(updates <= static_cast<double>(optim::kMostUpdates)))
    fail(ErrorKind::kUsage, "training.num_train_epochs: ", num_epochs, " epochs of ", updates_of(rounds_per_epoch),
         " updates are more than ", optim::kMostUpdates);
  return std::max<int64_t>(1, static_cast<int64_t>(updates));
}

std::string explain_divisor(LossType type, const GenerationBatch& batch) {
  const bool is_by_tokens = type == LossType::kDapo || type == LossType::kCispo || type == LossType::kVespo;
  if (!is_by_tokens || batch.steps_per_generation == batch.update.accumulation) return "";
  return concat("a round of sampling has ", batch.steps_per_generation,
                " micro-batches of a rank (steps_per_generation), and an update takes ", batch.update.accumulation,
                " (gradient_accumulation_steps): ", config::to_word(type),
                " divides the loss of an update by the tokens of its own completions, and TRL by its share of the "
                "round's, so that losses and gradients are other ones where answers have different lengths "
                "(docs/grpo.md#differences-from-trl)");
}

GenerationBatch plan_generation(const GrpoConfig& config, const UpdateRows& update) {
  const int64_t rows_per_step = update.per_micro_batch * update.num_ranks;
  GenerationBatch batch{.update = update,
                        .num_agents = config.ensemble.num_askers(),
                        .num_generations = config.num_generations,
                        .steps_per_generation = config.steps_per_generation.value_or(update.accumulation),
                        .num_iterations = config.num_iterations};
  if (config.generation_batch_size) {
    const int64_t size = *config.generation_batch_size;
    if (config.steps_per_generation)
      fail(ErrorKind::kUsage, "grpo.generation_batch_size ", size, " and grpo.steps_per_generation ",
           *config.steps_per_generation, " are both set: each follows from the other; write one");
    if (size % rows_per_step != 0)
      fail(ErrorKind::kUsage, "grpo.generation_batch_size ", size, " is no multiple of ", per_step(update), " = ",
           rows_per_step, ": a round of sampling fills whole micro-batches; change one of them");
    batch.steps_per_generation = size / rows_per_step;
  }
  const int64_t per_prompt = batch.num_agents * batch.num_generations;
  if (batch.num_completions() % per_prompt != 0)
    fail(ErrorKind::kUsage, "a round of sampling has ", batch.num_completions(), " completions (", per_step(update),
         " x ", batch.steps_per_generation, " steps per generation), which are no whole ",
         batch.num_agents == 1 ? concat("groups of grpo.num_generations ", batch.num_generations)
                               : concat("prompts of ", batch.num_agents, " agents x grpo.num_generations ",
                                        batch.num_generations, " = ", per_prompt, " completions"),
         ": change one of them, so that the product is a multiple of ", per_prompt);
  return batch;
}

std::vector<int64_t> possible_ranks(const GrpoConfig& config, const UpdateRows& rows, int64_t most) {
  const int64_t per_prompt = config.ensemble.num_askers() * config.num_generations;
  std::vector<int64_t> ranks;
  if (config.generation_batch_size) {
    const int64_t size = *config.generation_batch_size;
    if (size % per_prompt != 0) return ranks;
    for (int64_t n = 1; n <= std::min(most, size / rows.per_micro_batch); ++n)
      if (size % (rows.per_micro_batch * n) == 0) ranks.push_back(n);
    return ranks;
  }
  const int64_t of_a_rank = rows.per_micro_batch * config.steps_per_generation.value_or(rows.accumulation);
  const int64_t fewest = per_prompt / std::gcd(per_prompt, of_a_rank);
  for (int64_t n = fewest; n <= most; n += fewest) ranks.push_back(n);
  return ranks;
}

}  // namespace dsft::rl
