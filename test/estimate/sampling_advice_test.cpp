#include "estimate/sampling_advice.h"

#include "catch_amalgamated.hpp"
#include "estimate/advice.h"
#include "estimate/model_shapes.h"

using namespace dsft::estimate;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;

namespace {

constexpr int64_t kGibOfDevice = int64_t{1} << 30;

// A step of four seconds, three of them sampling by a GPU that is busy, of which nothing is to be said.
MeasuredSampling sound_sampling() {
  return {.num_sequences = 320,
          .max_completion_length = 256,
          .step_s = 4,
          .rollout_s = 3,
          .waiting_s = 0.01,
          .zero_deviation = 0.3,
          .truncated = 0.1};
}

Finding only_finding(const MeasuredSampling& run) {
  const std::vector<Finding> found = sampling_findings(run);
  REQUIRE(found.size() == 1);
  return found[0];
}

// An update of one second beside it, on a GPU that holds twice its rows.
MeasuredRun grpo_run() {
  MeasuredRun run{.workload = {.model = spec_of("Qwen3-0.6B"), .lora = std::nullopt},
                  .placement = {},
                  .gradient_accumulation_steps = 4,
                  .sampling = sound_sampling(),
                  .device_bytes = 80 * kGibOfDevice,
                  .step_s = 1,
                  .forward_s = 0.25};
  run.workload.num_documents = 4;
  run.workload.length = 2048;
  run.workload.sampled = SampledRows{.num_sequences = 320};
  return run;
}

}  // namespace

TEST_CASE("a round that keeps the device busy, and has something to learn from, is not spoken of", "[estimate]") {
  REQUIRE(sampling_findings(sound_sampling()).empty());
}

TEST_CASE("waiting for rewards is told with the programs that could have more workers", "[estimate]") {
  MeasuredSampling run = sound_sampling();
  run.waiting_s = 1;
  run.programs = {"concise (workers: 2)", "judge (workers: 1)"};
  const Finding finding = only_finding(run);
  CHECK_THAT(finding.sentence,
             StartsWith("25 % of a step went by waiting for rewards: write more `workers` for concise "
                        "(workers: 2) and judge (workers: 1), each"));
  CHECK(finding.seconds == 1);
  CHECK(finding.aim == Aim::kSpeed);
  run.programs.clear();
  CHECK_THAT(only_finding(run).sentence, ContainsSubstring("built-in rewards"));
  run.waiting_s = 0.19;  // below 5 % of a step
  CHECK(sampling_findings(run).empty());
}

TEST_CASE("few completions at once are told where sampling by a GPU is most of a step", "[estimate]") {
  MeasuredSampling run = sound_sampling();
  run.num_sequences = 16;
  CHECK_THAT(only_finding(run).sentence,
             StartsWith("Sampling took 75 % of a step and decoded 16 completions together") &&
                 ContainsSubstring("grpo.steps_per_generation"));
  run.sized_by = RoundKey::kStepsPerGeneration;
  CHECK_THAT(only_finding(run).sentence, ContainsSubstring("Write a larger grpo.steps_per_generation."));
  run.sized_by = RoundKey::kGenerationBatchSize;
  CHECK_THAT(only_finding(run).sentence, ContainsSubstring("Write a larger grpo.generation_batch_size."));
  run.rollout_s = 1.9;
  CHECK(sampling_findings(run).empty());
  run.rollout_s = 3;
  run.is_on_gpu = false;  // cores take as much longer as there are sequences
  CHECK(sampling_findings(run).empty());
}

TEST_CASE("what is sampled without anything to learn from it is told by its share of a step", "[estimate]") {
  MeasuredSampling run = sound_sampling();
  run.zero_deviation = 0.75;
  const Finding equal = only_finding(run);
  CHECK_THAT(equal.sentence,
             StartsWith("75 % of the groups had equal rewards") && ContainsSubstring("num_generations"));
  CHECK(equal.seconds == 3);
  CHECK(equal.aim == Aim::kLearning);

  run = sound_sampling();
  run.truncated = 0.5;
  CHECK_THAT(only_finding(run).sentence,
             StartsWith("50 % of the completions ended at grpo.max_completion_length: 256, before their end"));
  CHECK(only_finding(run).seconds == 0);
  run.masks_truncated = true;
  CHECK_THAT(only_finding(run).sentence, ContainsSubstring("256, and took no part in the loss: write a larger one"));
  CHECK(only_finding(run).seconds == 2);
}

TEST_CASE("the update of a grpo run is judged by its own seconds, and its micro-batch within the round", "[estimate]") {
  MeasuredRun run = grpo_run();
  const auto sentences_of = [&] {
    std::string all;
    for (const Finding& finding : findings(run)) all += finding.sentence + "\n";
    return all;
  };
  CHECK_THAT(sentences_of(), StartsWith("There is room for training.per_device_train_batch_size: ") &&
                                 ContainsSubstring("with gradient_accumulation_steps: "));
  run.sampling->sized_by = RoundKey::kStepsPerGeneration;
  run.sampling->steps_per_generation = 2;
  CHECK_THAT(sentences_of(), StartsWith("There is room for training.per_device_train_batch_size: 8 with "
                                        "gradient_accumulation_steps: 2 and grpo.steps_per_generation: 1, which"));
  run.sampling->steps_per_generation = 3;  // no whole micro-batches of twice the size
  CHECK(sentences_of().empty());
  run.sampling->sized_by = RoundKey::kGenerationBatchSize;
  CHECK(sentences_of().empty());
  run.sampling->steps_per_generation = 2;
  CHECK_THAT(sentences_of(), StartsWith("There is room for training.per_device_train_batch_size: 8 with "
                                        "gradient_accumulation_steps: 2, which"));
  run.gradient_accumulation_steps = 1;
  run.sampling->sized_by = RoundKey::kGradientAccumulation;
  run.workload.length = 128;  // another number of rows would be another round
  CHECK(sentences_of().empty());

  run.placement = {.stage = 2, .offloads_optimizer = true};
  run.optimizer_s = 0.4;
  CHECK_THAT(sentences_of(), StartsWith("zero.offload_optimizer is not needed") &&
                                 ContainsSubstring("40 % of a step without its sampling"));
  run.sampling->waiting_s = 1;
  CHECK_THAT(sentences_of(), StartsWith("25 % of a step went by waiting for rewards"));  // the costliest first
}

TEST_CASE("of a grpo run that took less than estimated, longer completions may be yet to come", "[estimate]") {
  MeasuredRun run = grpo_run();
  run.peak_bytes = 1;
  const int64_t estimated = estimate_memory(run.workload, run.placement).gpu.total();
  run.device_bytes = (estimated + 2 * kGibOfDevice) / 19 * 20;  // no more than the longest rows take
  CHECK(findings(run).empty());
  run.sampling.reset();
  CHECK_FALSE(findings(run).empty());
}
