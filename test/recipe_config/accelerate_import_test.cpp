// Files of `accelerate config` read into a recipe.
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "recipe_config/recipe_config.h"
#include "support/fixtures.h"
#include "support/temp_dir.h"

using namespace dsft;

namespace {

/// What `accelerate config` writes for two GPUs of one machine.
constexpr const char* kPlain =
    "compute_environment: LOCAL_MACHINE\ndebug: false\ndistributed_type: MULTI_GPU\ndowncast_bf16: 'no'\n"
    "enable_cpu_affinity: false\ngpu_ids: all\nmachine_rank: 0\nmain_training_function: main\nmixed_precision: bf16\n"
    "num_machines: 1\nnum_processes: 2\nrdzv_backend: static\nsame_network: true\ntpu_env: []\ntpu_use_cluster: false\n"
    "tpu_use_sudo: false\nuse_cpu: false\n";

struct Outcome {
  recipe_config::RecipeConfig config;
  std::string faults, warnings;
};

Outcome read_accelerate(const std::string& file, const std::string& addition = "", const std::string& deepspeed = "{}",
                        const std::string& name = "acc.yaml") {
  const test::TempDir folder;
  folder.write("ds.json", deepspeed);
  folder.write(name, file);
  const test::WorkingDirectory inside(folder.path());
  auto reading = recipe_config::read_recipe_text(
      concat("recipe: sft\noutput_dir: r\nmodel: {path: a}\ndata: {train: t.json}\naccelerate: ", name, "\n", addition),
      "r.yaml");
  Outcome outcome;
  for (const config::Fault& fault : reading.faults) outcome.faults += to_string(fault) + "\n";
  for (const config::Fault& warning : reading.warnings) outcome.warnings += to_string(warning) + "\n";
  outcome.config = std::move(reading.config);
  if (outcome.faults.empty()) recipe_config::resolve_defaults(outcome.config, true);
  return outcome;
}

void check_refused(const std::string& file, const std::string& expected, const std::string& addition = "") {
  CHECK_THAT(read_accelerate(file, addition).faults, Catch::Matchers::ContainsSubstring(expected));
}

}  // namespace

TEST_CASE("A plain Accelerate file sets precision and processes without a word on its boilerplate", "[recipe_config]") {
  const Outcome outcome = read_accelerate(kPlain);
  CHECK(outcome.faults == "");
  CHECK(outcome.warnings == "");
  CHECK(outcome.config.model.dtype == spec::ComputeDtype::kBf16);
  CHECK(outcome.config.run.num_processes->number == 2);
  CHECK(outcome.config.zero.stage == 0);

  const Outcome cpu = read_accelerate("distributed_type: NO\nuse_cpu: true\nmixed_precision: no\n");
  CHECK(cpu.faults == "");
  CHECK(cpu.config.device == device::DeviceChoice::kCpu);
  CHECK(cpu.config.model.dtype == spec::ComputeDtype::kFp32);
  CHECK(read_accelerate("distributed_type: 'NO'\nmixed_precision: 'no'\n", "training: {bf16: true}\n")
            .config.model.dtype == spec::ComputeDtype::kBf16);
  CHECK(read_accelerate("distributed_type: NO\nfp16: true\n").config.model.dtype == spec::ComputeDtype::kFp16);
  CHECK(read_accelerate(R"({"distributed_type": "NO", "mixed_precision": "fp16"})", "", "{}", "acc.json")
            .config.model.dtype == spec::ComputeDtype::kFp16);
}

TEST_CASE("An Accelerate file's type of training says how many processes and where", "[recipe_config]") {
  const Outcome gpus = read_accelerate("distributed_type: MULTI_GPU\nnum_processes: 2\ngpu_ids: 2, 3\n");
  CHECK(gpus.faults + gpus.warnings == "");
  CHECK(gpus.config.run.num_processes->position.line == 2);
  CHECK(gpus.config.run.gpu_ids->numbers == std::vector<int>{2, 3});
  CHECK(gpus.config.run.gpu_ids->position.line == 3);
  CHECK(read_accelerate("distributed_type: NO\ngpu_ids: 1\n").config.run.gpu_ids->numbers == std::vector<int>{1});
  CHECK_FALSE(read_accelerate(kPlain).config.run.gpu_ids);
  for (const char* malformed : {"0,0", "'0,'", "first", "-1", "[0, 1]", "'0;1'"}) {
    check_refused(concat("distributed_type: MULTI_GPU\ngpu_ids: ", malformed, "\n"),
                  "acc.yaml:2:1: gpu_ids: needs \"all\" or the numbers of GPUs");
  }

  const Outcome none = read_accelerate("distributed_type: NO\nnum_processes: 2\n");
  CHECK(none.config.run.num_processes->number == 1);
  CHECK(none.warnings ==
        "acc.yaml:2:1: num_processes: has no effect: distributed_type NO is one process; write MULTI_GPU or "
        "MULTI_CPU for more\n");
  CHECK(read_accelerate("distributed_type: NO\nnum_processes: 1\n").warnings == "");

  const Outcome cpus = read_accelerate("distributed_type: MULTI_CPU\nnum_processes: 2\n");
  CHECK(cpus.faults + cpus.warnings == "");
  CHECK(cpus.config.device == device::DeviceChoice::kCpu);
  check_refused("distributed_type: MULTI_CPU\n",
                "acc.yaml:1:1: distributed_type: `cpu` contradicts `device` at r.yaml:6:1, which is `cuda`",
                "device: cuda\n");
}

TEST_CASE("DeepSpeed settings of an Accelerate file stand for the recipe's keys", "[recipe_config]") {
  const std::string file =
      "distributed_type: DEEPSPEED\nmixed_precision: fp16\nnum_processes: 2\ndeepspeed_config:\n  "
      "gradient_accumulation_steps: 4\n"
      "  gradient_clipping: 0.5\n  offload_optimizer_device: none\n  offload_param_device: none\n  zero3_init_flag: "
      "true\n"
      "  zero3_save_16bit_model: true\n  zero_stage: 1\n";
  const Outcome outcome = read_accelerate(file);
  CHECK(outcome.faults == "");
  CHECK(outcome.warnings == "");
  CHECK(outcome.config.training.gradient_accumulation_steps == 4);
  CHECK(outcome.config.training.max_grad_norm == 0.5);
  CHECK(outcome.config.zero.stage == 1);
  CHECK(outcome.config.model.dtype == spec::ComputeDtype::kFp16);
  CHECK(
      read_accelerate("distributed_type: DEEPSPEED\ndeepspeed_config: {gradient_clipping: auto}\n").config.zero.stage ==
      2);
  CHECK(read_accelerate("distributed_type: DEEPSPEED\n").config.zero.stage == 2);
  check_refused(file,
                "acc.yaml:5:3: deepspeed_config.gradient_accumulation_steps: `4` contradicts "
                "`training.gradient_accumulation_steps` at r.yaml:6:12, which is `8`",
                "training: {gradient_accumulation_steps: 8}\n");
  check_refused("distributed_type: DEEPSPEED\ndeepspeed_config: {offload_optimizer_device: nvme}\n",
                "deepspeed_config.offload_optimizer_device: `nvme` is not supported: nothing is swapped to a disk");
  check_refused("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stge: 2}\n",
                "deepspeed_config.zero_stge: is unknown to Accelerate, which refuses it; did you mean `zero_stage`?");
}

TEST_CASE("An Accelerate file may name a DeepSpeed file, which then holds every setting", "[recipe_config]") {
  const std::string file =
      "distributed_type: DEEPSPEED\ndeepspeed_config:\n  deepspeed_config_file: ds.json\n  zero3_init_flag: false\n";
  const Outcome outcome =
      read_accelerate(file, "", R"({"zero_optimization": {"stage": 2}, "gradient_clipping": 0.25})");
  CHECK(outcome.faults == "");
  CHECK(outcome.config.zero.stage == 2);
  CHECK(outcome.config.training.max_grad_norm == 0.25);
  CHECK_THAT(read_accelerate(file, "training: {max_grad_norm: 1}\n", R"({"gradient_clipping": 0.25})").faults,
             Catch::Matchers::ContainsSubstring(
                 "ds.json:1:2: gradient_clipping: `0.25` contradicts `training.max_grad_norm`"));
  check_refused(file + "  zero_stage: 3\n",
                "acc.yaml:5:3: deepspeed_config.zero_stage: stands beside deepspeed_config_file");
  check_refused("distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: other.json}\n",
                "acc.yaml:2:20: deepspeed_config.deepspeed_config_file: other.json cannot be read");
  CHECK_THAT(read_accelerate(file + "mixed_precision: fp16\n", "", R"({"bf16": {"enabled": true}})").faults,
             Catch::Matchers::ContainsSubstring(
                 "mixed_precision: `fp16` contradicts `bf16.enabled` at ds.json:1:11, which is `bf16`"));
}

TEST_CASE("What an Accelerate file asks for and dsft does not have is one sentence", "[recipe_config]") {
  CHECK(read_accelerate("distributed_type: FSDP\nfsdp_config: {fsdp_version: 2}\n").faults ==
        "acc.yaml:1:1: distributed_type: `FSDP` is not supported: dsft shards by ZeRO; write DEEPSPEED, with "
        "zero_stage 3 for what FULL_SHARD does\n");
  check_refused("distributed_type: MEGATRON_LM\n", "`MEGATRON_LM` is not supported");
  check_refused("distributed_type: XLA\n", "`XLA` is not supported: dsft computes on NVIDIA GPUs and CPUs");
  check_refused("compute_environment: AMAZON_SAGEMAKER\ndistributed_type: NO\n", "`AMAZON_SAGEMAKER` is not supported");
  check_refused("mixed_precision: bf16\n", "distributed_type: is required by Accelerate");
  check_refused("distributed_type: NO\nmixed_precision: fp8\n", "`fp8` is not supported: write \"no\", fp16 or bf16");
  check_refused("distributed_type: NO\nnum_proceses: 2\n",
                "num_proceses: is unknown to Accelerate, which refuses it; did you mean `num_processes`?");
  check_refused("distributed_type: NO\nnum_processes: 0\n", "needs a whole number of at least 1, not `0`");
  check_refused("distributed_type: NO\nmixed_precision: bf16\n",
                "r.yaml:6:12: training.fp16: contradicts `model.dtype` at acc.yaml:2:1", "training: {fp16: true}\n");
  const std::string warnings =
      read_accelerate(
          "distributed_type: MULTI_GPU\nnum_machines: 2\nmachine_rank: 1\nmain_process_ip: 10.0.0.1\n"
          "dynamo_config: {dynamo_backend: INDUCTOR}\ndeepspeed_config: {zero_stage: 2}\n")
          .warnings;
  for (const char* expected :
       {"num_machines: has no effect: `dsft launch --hostfile`", "machine_rank: has no effect", "main_process_ip: has",
        "dynamo_config: has no effect", "deepspeed_config: has no effect: distributed_type is not DEEPSPEED"})
    CHECK_THAT(warnings, Catch::Matchers::ContainsSubstring(expected));
}

TEST_CASE("Every key that Accelerate knows is read or named", "[recipe_config]") {
  const auto golden = nlohmann::json::parse(std::ifstream(test::fixture_path("recipe_config/deepspeed_keys.json")));
  for (const std::string name : golden["accelerate"]) {
    const std::string type = name == "distributed_type" ? "" : "distributed_type: NO\n";
    CHECK(read_accelerate(concat(type, name, ":\n")).faults.find("unknown") == std::string::npos);
  }
  for (const std::string name : golden["accelerate_deepspeed"]) {
    INFO(name);
    CHECK(read_accelerate(concat("distributed_type: DEEPSPEED\ndeepspeed_config: {", name, ": null}\n")).faults == "");
  }
}
