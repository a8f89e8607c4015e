// Runs at ZeRO stage 3 that save whole weights, or their shards, as a user sees them.
#include <cmath>
#include <map>

#include "catch_amalgamated.hpp"
#include "end_to_end/run_dsft.h"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

constexpr const char* kShardedSections =
    "zero: {stage: 3, stage3_gather_16bit_weights_on_model_save: false}\n"
    "training: {max_steps: 8, per_device_train_batch_size: 2, learning_rate: 1.0e-5, save_steps: 2, save_total_limit: "
    "9, "
    "report_to: [none]}\n";
constexpr const char* kGather = "zero.stage3_gather_16bit_weights_on_model_save=true";

// One tiny model and recipe; launches it with so many ranks.
struct ShardedJob {
  test::TempDir folder;
  fs::path recipe = test::make_tiny_job(folder, kShardedSections);

  test::ProgramRun launch(int num_ranks, std::vector<std::string> overrides) const {
    std::vector<std::string> arguments = {"launch", "--num-procs", std::to_string(num_ranks), recipe.string()};
    arguments.insert(arguments.end(), overrides.begin(), overrides.end());
    test::ProgramRun run = test::run_dsft(arguments, folder);
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    return run;
  }
  std::string output_dir(const std::string& name) const { return "output_dir=" + (folder / name).string(); }
};

}  // namespace

TEST_CASE("Shards that ranks saved become the files of a run that gathers them", "[end_to_end][slow]") {
  const ShardedJob job;
  const std::string dtype = GENERATE("model.dtype=fp32", "model.dtype=bf16");
  const std::string steps = "training.max_steps=2";
  job.launch(2, {dtype, steps, kGather, job.output_dir("whole")});
  job.launch(2, {dtype, steps, job.output_dir("shards")});
  REQUIRE(fs::exists(job.folder / "whole/model.safetensors"));
  CHECK_FALSE(fs::exists(job.folder / "whole/sharded_weights.json"));
  CHECK_FALSE(fs::exists(job.folder / "shards/model.safetensors"));
  for (const auto& [from, made] :
       std::map<std::string, std::string>{{"shards", "made"}, {"shards/checkpoint-2", "made_too"}}) {
    const auto run = test::run_dsft(
        {"consolidate", "--checkpoint", (job.folder / from).string(), "--output", (job.folder / made).string()},
        job.folder);
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    for (const auto& entry : fs::directory_iterator(job.folder / made))
      CHECK(test::read_file(entry.path()) == test::read_file(job.folder / "whole" / entry.path().filename()));
  }
  // and it is a model
  const auto generated = test::run_dsft(
      {"generate", "--model", (job.folder / "made").string(), "--prompt", "What", "--max-new-tokens", "2"}, job.folder);
  INFO(generated.err);
  CHECK(generated.exit_code == 0);
  const auto refused = test::run_dsft(
      {"generate", "--model", (job.folder / "shards").string(), "--prompt", "What", "--max-new-tokens", "2"},
      job.folder);
  CHECK(refused.exit_code == 4);
  CHECK_THAT(refused.err, ContainsSubstring("dsft consolidate"));
}

TEST_CASE("A run goes on from shards with any number of ranks, and with whole weights", "[end_to_end][slow]") {
  const ShardedJob job;
  bool is_first = true;
  for (const auto& [ranks, end] : std::vector<std::pair<int, int>>{{4, 2}, {2, 4}, {1, 6}, {3, 8}}) {
    std::vector<std::string> overrides = {"training.per_device_train_batch_size=" + std::to_string(12 / ranks),
                                          job.output_dir("run"), "training.max_steps=" + std::to_string(end),
                                          "training.lr_scheduler_type=constant"};
    if (!is_first) overrides.emplace_back("training.resume_from_checkpoint=true");
    if (ranks == 1) overrides.emplace_back("zero.stage=1");  // reads shards, writes whole weights
    is_first = false;
    job.launch(ranks, overrides);
  }
  job.launch(1, {"training.per_device_train_batch_size=12", job.output_dir("whole"), "training.save_strategy=no",
                 "training.lr_scheduler_type=constant"});
  const auto expected = test::losses_of(job.folder / "whole"), actual = test::losses_of(job.folder / "run");
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) CHECK(std::abs(actual[i] / expected[i] - 1) < 1e-5);
  CHECK(fs::exists(job.folder / "run/checkpoint-6/model.safetensors"));
  CHECK(fs::exists(job.folder / "run/sharded_weights-2-of-3.safetensors"));
  CHECK_FALSE(fs::exists(job.folder / "run/model.safetensors"));
}

TEST_CASE("An adapter is written whole at stage 3, what modules_to_save shares too", "[end_to_end][slow]") {
  const ShardedJob job;
  const std::string lora = "lora={r: 4, lora_alpha: 8, target_modules: [q_proj], modules_to_save: [lm_head]}";
  const auto run = job.launch(2, {lora, "training.max_steps=2", job.output_dir("shared")});
  CHECK_THAT(run.err, ContainsSubstring("adapters are always written whole"));
  job.launch(2, {lora, "training.max_steps=2", job.output_dir("whole"), "zero.stage=0"});
  CHECK(test::read_file(job.folder / "shared/adapter_config.json") ==
        test::read_file(job.folder / "whole/adapter_config.json"));
  CHECK(fs::file_size(job.folder / "shared/adapter_model.safetensors") ==
        fs::file_size(job.folder / "whole/adapter_model.safetensors"));
  CHECK_FALSE(fs::exists(job.folder / "shared/sharded_weights.json"));
  // continues from that adapter, of which each rank has its slices
  const std::string adapter = "lora={adapter: " + (job.folder / "shared").string() + "}";
  job.launch(2, {adapter, "training.max_steps=1", job.output_dir("further")});
  job.launch(2, {adapter, "training.max_steps=1", "zero.stage=0", job.output_dir("further_whole")});
  const auto shared = test::losses_of(job.folder / "further"), whole = test::losses_of(job.folder / "further_whole");
  CHECK(std::abs(shared.at(0) / whole.at(0) - 1) < 1e-5);
}

TEST_CASE("A disk that fills up while ranks save what they share costs that save, on all ranks alike",
          "[end_to_end][slow]") {
  const ShardedJob job;
  const std::string gather = GENERATE("true", "false");
  const std::string weights = gather == "true" ? "model.safetensors" : "sharded_weights.json";
  int num_refused = 0;
  for (const int call : {20, 40, 60, 80}) {
    INFO("gather " << gather << ", call " << call);
    fs::remove_all(job.folder / "run");
    const auto run =
        test::run_dsft({"launch", "--num-procs", "2", job.recipe.string(), "training.max_steps=6",
                        "zero.stage3_gather_16bit_weights_on_model_save=" + gather},
                       job.folder, "",
                       {{"LD_PRELOAD", std::string(DSFT_BIN_DIR) + "/libdsft_fault_injection.so"},
                        {"DSFT_FAULT", "enospc:" + std::to_string(call) + ":" + (job.folder / "run").string()}});
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    num_refused += run.err.find("COULD NOT BE SAVED") != std::string::npos;
    CHECK(test::losses_of(job.folder / "run").size() == 6);
    CHECK(fs::exists(job.folder / "run" / weights));
    const auto further = test::run_dsft({"launch", "--num-procs", "3", job.recipe.string(), "training.max_steps=7",
                                         "training.resume_from_checkpoint=true"},
                                        job.folder);
    INFO(further.err);
    CHECK(further.exit_code == 0);
  }
  CHECK(num_refused > 0);
}
