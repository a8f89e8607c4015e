#include "estimate/sampling_advice.h"

#include <cmath>

#include "base/error.h"
#include "base/nearest_name.h"

namespace dsft::estimate {
namespace {

// Where most groups have equal rewards, most of what is sampled and passed over has no gradient.
constexpr double kMostGroups = 0.5;
// Rewards seldom find the answer of a completion that was cut. A bound is there for a tail; a fifth is none.
constexpr double kTail = 0.2;
// A decoding step of 64 sequences takes a GPU about twice as long as one of 1 (docs/benchmarks.md): up to there more of
// them are nearly free, and worth a word where sampling is most of a step.
constexpr int64_t kBusySequences = 64;
constexpr double kMostOfStep = 0.5;

std::string in_percent(double share) {
  return concat(std::llround(100 * share), " %");
}

void find_waiting_for_rewards(const MeasuredSampling& run, std::vector<Finding>& found) {
  if (run.waiting_s < kWorthSaying * run.step_s) return;
  found.push_back({concat(in_percent(run.waiting_s / run.step_s), " of a step went by waiting for rewards: ",
                          run.programs.empty()
                              ? std::string("nothing was sampled any more, and the built-in rewards were not done; "
                                            "give the run more cores.")
                              : concat("write more `workers` for ", join_words(run.programs),
                                       ", each of which is a process, or a faster program.")),
                   run.waiting_s});
}

std::string larger_rounds(RoundKey sized_by) {
  switch (sized_by) {
    case RoundKey::kGradientAccumulation:
      return "larger training.gradient_accumulation_steps for more prompts an update, or a grpo.steps_per_generation "
             "that serves several updates";
    case RoundKey::kStepsPerGeneration:
      return "a larger grpo.steps_per_generation";
    case RoundKey::kGenerationBatchSize:
      return "a larger grpo.generation_batch_size";
  }
  DSFT_CHECK(false, "an unknown key");
}

void find_small_rounds(const MeasuredSampling& run, std::vector<Finding>& found) {
  const double sampling_s = run.rollout_s - run.waiting_s;
  if (!run.is_on_gpu || run.num_sequences >= kBusySequences || sampling_s < kMostOfStep * run.step_s) return;
  found.push_back(
      {concat("Sampling took ", in_percent(sampling_s / run.step_s), " of a step and decoded ", run.num_sequences,
              " completions together, which keep a GPU hardly busy: more of them take little longer. Write ",
              larger_rounds(run.sized_by), "."),
       0});
}

// What is sampled for nothing, by the share of a step.
void find_equal_rewards(const MeasuredSampling& run, std::vector<Finding>& found) {
  if (run.zero_deviation < kMostGroups) return;
  found.push_back(
      {concat(in_percent(run.zero_deviation),
              " of the groups had equal rewards, from which nothing is "
              "learned: the prompts are too easy or too hard for the policy. Leave out those that it always "
              "or never solves, write a larger grpo.num_generations, or add a reward that tells their "
              "completions apart."),
       run.zero_deviation * run.step_s, Aim::kLearning});
}

void find_truncation(const MeasuredSampling& run, std::vector<Finding>& found) {
  if (run.truncated < kTail) return;
  found.push_back({concat(in_percent(run.truncated),
                          " of the completions ended at grpo.max_completion_length: ", run.max_completion_length,
                          run.masks_truncated ? ", and took no part in the loss" : ", before their end",
                          ": write a larger one, or ask for shorter answers by the prompt or a reward of length."),
                   run.masks_truncated ? run.truncated * run.step_s : 0, Aim::kLearning});
}

}  // namespace

std::vector<Finding> sampling_findings(const MeasuredSampling& run) {
  std::vector<Finding> found;
  find_waiting_for_rewards(run, found);
  find_small_rounds(run, found);
  find_equal_rewards(run, found);
  find_truncation(run, found);
  return found;
}

}  // namespace dsft::estimate
