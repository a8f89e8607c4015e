#include "recipe/run_adviser.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "estimate/model_shapes.h"
#include "recipe/memory_advice.h"
#include "support/temp_dir.h"

using namespace dsft;

namespace {

constexpr int64_t kGib = int64_t{1} << 30;

// Updates of one second each, of which 0.3 s wait for rows and 0.2 s for other ranks, with an offload that its 80 GiB
// do not ask for.
nlohmann::json advice_after(int64_t num_updates, const test::TempDir& folder) {
  estimate::MeasuredRun run{.workload = {.model = estimate::spec_of("Qwen3-0.6B"), .lora = std::nullopt},
                            .placement = {.stage = 2, .offloads_optimizer = true, .num_gpus = 2},
                            .overlaps_communication = false,
                            .device_bytes = 80 * kGib};
  run.workload.num_documents = 8;
  const Logger logger(/*rank=*/0, /*is_quiet=*/true);
  recipe::RunAdviser adviser(run, folder.path(), logger);
  folder.write("advice.json", "{\"advice\": \"of an earlier run\"}");
  adviser.on_start({.max_steps = num_updates});
  for (int64_t step = 1; step <= num_updates; ++step) {
    train::StepReport report;
    report.step = step;
    // the first update takes long: it is no typical one
    report.step_seconds = step == 1 ? 60.0 : 1.0;
    report.data_seconds = step == 1 ? 50.0 : 0.3;
    report.optimizer_seconds = 0.1;
    if (step <= 3) report.wait_seconds = 0.2;  // of the others it is not known
    report.peak_memory_gib = 30;
    adviser.on_step(report);
  }
  adviser.on_end();
  std::ifstream file(folder.path() / "advice.json");
  return file ? nlohmann::json::parse(file) : nlohmann::json();
}

}  // namespace

TEST_CASE("A run leaves what has slowed it, the costliest first", "[recipe]") {
  const test::TempDir folder;
  const nlohmann::json advice = advice_after(20, folder);
  CHECK(advice["step_seconds"] == 1.0);
  CHECK(advice["data_seconds"] == 0.3);
  CHECK(advice["wait_seconds"] == 0.2);
  CHECK(advice["peak_memory_gib"] == 30.0);
  REQUIRE(advice["advice"].size() == 3);
  const auto sentence = [&](size_t i) { return advice["advice"][i]["sentence"].get<std::string>(); };
  CHECK(sentence(0).find("30 % of a step went by waiting for batches") != std::string::npos);
  CHECK(sentence(1).find("zero.overlap_comm is false") != std::string::npos);
  CHECK(sentence(2).find("zero.offload_optimizer is not needed") != std::string::npos);
  CHECK(advice["advice"][0]["seconds"] == 0.3);
}

TEST_CASE("A run of a few updates is not judged, and the advice of an earlier one is gone", "[recipe]") {
  const test::TempDir folder;
  CHECK(advice_after(9, folder).is_null());
}

TEST_CASE("A GRPO run tells what held its rounds up, by their seconds and its update's own", "[recipe]") {
  const test::TempDir folder;
  recipe_config::RecipeConfig config;
  config.recipe = recipe_config::RecipeKind::kGrpo;
  config.model.path = (std::filesystem::path(DSFT_SOURCE_DIR) / "test/fixtures/model/qwen3").string();
  config.training.per_device_train_batch_size = 4;
  config.training.gradient_accumulation_steps = 2;
  rl::GrpoConfig& grpo = config.grpo.emplace();
  grpo.num_generations = 4;
  grpo.steps_per_generation = 4;  // a round serves two updates
  rewards::RewardConfig& reward = grpo.judged_by.rewards.emplace_back();
  reward.name = "concise";
  reward.function = rewards::ProgramConfig{.command = "true", .workers = 3};
  const Logger logger(/*rank=*/0, /*is_quiet=*/true);
  recipe::RunAdviser adviser(recipe::run_to_measure(config, at::kCPU, {}), folder.path(), logger);
  adviser.on_start({.max_steps = 11});
  for (int64_t step = 1; step <= 11; ++step) {
    train::StepReport report;
    report.step = step;
    // sampled with the even ones: 6 s, 2 of them waiting; the first is no typical one
    report.step_seconds = step == 1 ? 100.0 : step % 2 == 0 ? 7.0 : 1.0;
    report.update_seconds = step == 1 ? 50.0 : 1.0;
    report.metrics = {{"rollout/waiting_for_rewards_seconds", 2.0},
                      {"frac_reward_zero_std", step % 2 == 0 ? 1.0 : 0.6},
                      {"completions/clipped_ratio", 0.1}};
    adviser.on_step(report);
  }
  adviser.on_end();
  std::ifstream file(folder.path() / "advice.json");
  const nlohmann::json advice = nlohmann::json::parse(file);
  CHECK(advice["step_seconds"].get<double>() == Catch::Approx(4.0));
  CHECK(advice["update_seconds"] == 1.0);
  CHECK(advice["rollout_seconds"].get<double>() == Catch::Approx(3.0));
  CHECK(advice["waiting_for_rewards_seconds"].get<double>() == Catch::Approx(1.0));
  CHECK(advice["frac_reward_zero_std"].get<double>() == Catch::Approx(0.8));
  REQUIRE(advice["advice"].size() == 2);
  CHECK(advice["advice"][0]["aim"] == "learning");
  CHECK(advice["advice"][0]["seconds"].get<double>() == Catch::Approx(3.2));
  CHECK(advice["advice"][1]["aim"] == "speed");
  CHECK(advice["advice"][1]["sentence"].get<std::string>().find("concise (workers: 3)") != std::string::npos);
}

TEST_CASE("Of ranks that run out of memory together one explains", "[recipe]") {
  const test::TempDir folder;
  const auto output_dir = folder / "run";  // not made yet where weights find no room
  CHECK(recipe::is_first_to_explain(output_dir, "the first one's words"));
  CHECK_FALSE(recipe::is_first_to_explain(output_dir, "another one's"));
  std::ifstream file(recipe::memory_advice_file(output_dir));
  std::string line;
  std::getline(file, line);
  CHECK(line == "the first one's words");
  // where no file can be made, each explains
  folder.write("file", "");
  CHECK(recipe::is_first_to_explain(folder / "file", "words"));
  CHECK(recipe::is_first_to_explain(folder / "file", "words"));
}

TEST_CASE("Offloads are advised for what hosts had free before the job began, all of them together", "[recipe]") {
  recipe_config::RecipeConfig config;
  config.model.path = (std::filesystem::path(DSFT_SOURCE_DIR) / "test/fixtures/model/qwen3").string();
  config.training.auto_find_batch_size = true;
  const comm::Placement placement{.rank = 1, .size = 6, .local_rank = 1, .local_size = 2};
  const estimate::ShortOfMemory run =
      recipe::short_of_memory(config, at::kCPU, placement, /*free_host_bytes=*/5 * kGib);
  CHECK(run.host_bytes == 15 * kGib);
  CHECK(run.placement.num_gpus == 6);
  CHECK(run.finds_batch_size);
}
