#include "recipe_config/recipe_config.h"

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/counter_random.h"
#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "support/temp_dir.h"

using namespace dsft;
using recipe_config::read_recipe_text;
using recipe_config::RecipeReading;

namespace {

const std::string kBase =
    "recipe: sft\n"
    "output_dir: runs/a\n"
    "model: {path: models/m}\n"
    "data: {train: [t.jsonl]}\n";

std::string faults_of(const std::string& text, const std::vector<std::string>& overrides = {}) {
  std::string all;
  for (const config::Fault& fault : read_recipe_text(text, "r.yaml", overrides).faults) all += to_string(fault) + "\n";
  return all;
}

std::string warnings_of(const std::string& text) {
  std::string all;
  for (const config::Fault& warning : read_recipe_text(text, "r.yaml").warnings) all += to_string(warning) + "\n";
  return all;
}

void check_fault(const std::string& addition, const std::string& expected) {
  const std::string faults = faults_of(kBase + addition);
  INFO(faults);
  CHECK(faults.find(expected) != std::string::npos);
}

}  // namespace

TEST_CASE("the smallest recipe gets the contract's defaults", "[recipe_config]") {
  RecipeReading reading = read_recipe_text(kBase, "r.yaml");
  REQUIRE(reading.is_ok());
  CHECK(reading.warnings.empty());
  recipe_config::RecipeConfig& config = reading.config;
  recipe_config::resolve_defaults(config, false);
  CHECK_FALSE(config.lora);
  CHECK(config.model.dtype == spec::ComputeDtype::kFp32);
  CHECK(config.training.learning_rate == 1e-5);
  CHECK(config.training.warmup_ratio == 0.03);
  CHECK(config.training.save_total_limit == 2);
  CHECK(config.data.max_length == 2048);
  CHECK(config.data.packing);
  CHECK(config.data.num_workers.value_or(0) >= 1);
}

TEST_CASE("defaults that depend on others are resolved", "[recipe_config]") {
  RecipeReading reading =
      read_recipe_text(kBase + "lora: {}\ntraining: {fp16: true, seed: 7, eval_strategy: no}\n", "r.yaml");
  REQUIRE(reading.is_ok());
  recipe_config::resolve_defaults(reading.config, true);
  CHECK(reading.config.training.learning_rate == 2e-4);
  CHECK(reading.config.model.dtype == spec::ComputeDtype::kFp16);
  CHECK(reading.config.seed == 7);
  CHECK(reading.config.device == device::DeviceChoice::kCuda);
  CHECK(reading.config.training.eval_strategy == train::EvalStrategy::kNo);

  RecipeReading on_cuda = read_recipe_text(kBase, "r.yaml");
  recipe_config::resolve_defaults(on_cuda.config, true);
  CHECK(on_cuda.config.model.dtype == spec::ComputeDtype::kBf16);
  RecipeReading on_cpu = read_recipe_text(kBase + "device: cpu\n", "r.yaml");
  recipe_config::resolve_defaults(on_cpu.config, true);
  CHECK(on_cpu.config.model.dtype == spec::ComputeDtype::kFp32);
}

TEST_CASE("resolved.yaml runs again as it stands, without a warning", "[recipe_config]") {
  const std::string text =
      kBase +
      "lora: {target_modules: 'model\\.layers\\.\\d+\\..*_proj', rank_pattern: {q_proj: 4}, bias: lora_only}\n"
      "training: {eval_strategy: epoch, save_strategy: epoch, load_best_model_at_end: true, warmup_steps: 5,\n"
      "  save_total_limit: null, report_to: none, resume_from_checkpoint: true, lr_scheduler_type: polynomial,\n"
      "  lr_scheduler_kwargs: {lr_end: 1e-6}, gradient_checkpointing: true}\n";
  RecipeReading reading =
      read_recipe_text(text, "r.yaml", {"data.eval=e.json", "data.chat_template_kwargs={enable_thinking: no}"});
  REQUIRE(reading.is_ok());
  recipe_config::resolve_defaults(reading.config, false);
  const std::string resolved = recipe_config::to_yaml(reading.config);
  RecipeReading again = read_recipe_text(resolved, "resolved.yaml");
  for (const config::Fault& fault : again.faults) FAIL_CHECK(to_string(fault));
  for (const config::Fault& warning : again.warnings) FAIL_CHECK(to_string(warning));
  CHECK(recipe_config::to_yaml(again.config) == resolved);
  recipe_config::resolve_defaults(again.config, false);
  CHECK(recipe_config::to_yaml(again.config) == resolved);
  CHECK(again.config.data.chat_template_kwargs == "{\"enable_thinking\": false}");
  CHECK(again.config.lora->rank_pattern.front().second == 4);
}

TEST_CASE("all faults of a recipe come together, in the order of the file", "[recipe_config]") {
  const std::string faults = faults_of(
      "recipe: sft\noutput_dir: r\nmodel: {path: a, dtype: b16}\ndata: {train: [], max_length: 1}\ntraining: "
      "{learning_rte: 1}\n");
  const size_t first =
      faults.find("r.yaml:3:25: model.dtype: needs bf16, fp16 or fp32, not `b16`; did you mean `bf16`?");
  const size_t second = faults.find("r.yaml:4:15: data.train: names no file");
  const size_t third = faults.find("r.yaml:4:31: data.max_length: must be at least 2, not 1");
  const size_t fourth = faults.find("r.yaml:5:12: training.learning_rte: is unknown; did you mean `learning_rate`?");
  INFO(faults);
  REQUIRE(fourth != std::string::npos);
  CHECK((first < second && second < third && third < fourth));
}

TEST_CASE("keys that are required are missed in absent sections too", "[recipe_config]") {
  const std::string faults = faults_of("recipe: sft\noutput_dir: a\n");
  INFO(faults);
  CHECK(faults.find("model.path: is required") != std::string::npos);
  CHECK(faults.find("data.train: is required") != std::string::npos);
}

TEST_CASE("another tool's spelling names the right key", "[recipe_config]") {
  check_fault("cutoff_len: 5\n", "r.yaml:5:1: cutoff_len: is LLaMA-Factory's spelling: write `data.max_length`");
  check_fault("lora_rank: 5\n", "write `lora.r`");
  check_fault("sequence_len: 5\n", "write `data.max_length`");
  check_fault("training: {micro_batch_size: 5}\n", "write `training.per_device_train_batch_size`");
  check_fault("learning_rate: 1\n", "write `training.learning_rate`");
}

TEST_CASE("wrong types say what stands there and what to write", "[recipe_config]") {
  check_fault("training: {save_steps: \"8\"}\n", "needs a whole number, not \"8\": remove the quotes");
  check_fault("training: {max_steps: yes}\n", "needs a whole number, not `yes`");
  check_fault("training: {warmup_steps: 0.1}\n", "write warmup_ratio: 0.1");
  check_fault("training: {learning_rate: .inf}\n", "must be finite");
  check_fault("training: 5\n", "is a section of keys, not `5`");
  check_fault("lora:\n", "write `lora: {}` for its defaults");
  check_fault("lora: {init_lora_weights: pissa}\n", "changes the base weights");
  check_fault("lora: {use_dora: true}\n", "DoRA is not built");
  check_fault("lora: {target_modules: []}\n", "names no module");
  check_fault("lora: {lora_dropout: 1}\n", "must be at least 0 and less than 1, not 1");
  check_fault("lora: {lora_dropout: 0.999999}\n", "would drop every value");
}

TEST_CASE("what later work brings is one clear fault", "[recipe_config]") {
  check_fault("training: {report_to: [wandb]}\n", "`wandb` is not built yet");
  CHECK(faults_of("recipe: vision_language\noutput_dir: r\nmodel: {path: a}\ndata: {train: t.jsonl}\n")
            .find("comes with the vision recipe") != std::string::npos);
  CHECK(faults_of("recipe: sft\noutput_dir: r\nmodel: {path: a, load_in_4bit: true}\ndata: {train: t.csv}\n")
            .find(".csv files are not built yet") != std::string::npos);
  for (const char* stage : {"0", "1", "2", "3"}) CHECK(faults_of(kBase + "zero: {stage: " + stage + "}\n").empty());
  CHECK(
      faults_of("recipe: sft\noutput_dir: r\nmodel: {path: a, load_in_4bit: false}\ndata: {train: t.json}\n").empty());
}

TEST_CASE("written settings that contradict each other name both lines; a default never conflicts", "[recipe_config]") {
  check_fault("training:\n  warmup_ratio: 0.1\n  warmup_steps: 3\n",
              "r.yaml:7:3: training.warmup_steps: contradicts `training.warmup_ratio` at line 6");
  check_fault("training: {auto_find_batch_size: true}\nzero: {stage: 3}\n",
              "contradicts `training.auto_find_batch_size` at line 5");
  check_fault("training: {bf16: true, fp16: true}\n", "contradicts `training.bf16` at line 5");
  check_fault("training: {output_dir: other}\n", "contradicts `output_dir` at line 2");
  // a key of the command line and one of the file: the line alone would say nothing
  const auto reading =
      recipe_config::read_recipe_text(kBase + "training: {warmup_ratio: 0.1}\n", "r.yaml", {"training.warmup_steps=3"});
  REQUIRE(reading.faults.size() == 1);
  CHECK_THAT(to_string(reading.faults[0]),
             Catch::Matchers::StartsWith("command line: override 1: training.warmup_steps: contradicts "
                                         "`training.warmup_ratio` at r.yaml:5:12: "));
  CHECK(faults_of(kBase + "training: {warmup_steps: 3, warmup_ratio: null}\n").empty());
  CHECK(faults_of(kBase + "training: {output_dir: runs/a}\n").empty());
  CHECK(
      faults_of(
          "recipe: sft\noutput_dir: r\nmodel: {path: a, dtype: fp32}\ndata: {train: t.json}\ntraining: {bf16: true}\n")
          .find("contradicts `model.dtype` at line 3") != std::string::npos);
}

TEST_CASE("offload is of the stages that have what it offloads", "[recipe_config]") {
  const std::string optimizer = "offload_optimizer: {device: cpu}", parameters = "offload_param: {device: cpu}";
  for (const char* stage : {"1", "2", "3"})
    CHECK(faults_of(kBase + "zero: {stage: " + stage + ", " + optimizer + "}\n").empty());
  check_fault("zero: {" + optimizer + "}\n",
              "r.yaml:5:28: zero.offload_optimizer.device: cpu is of stages 1 to 3: write zero.stage: 1");
  CHECK(faults_of(kBase + "zero: {stage: 3, " + parameters + "}\n").empty());
  CHECK(warnings_of(kBase + "zero: {stage: 3, " + parameters + "}\n").empty());
  CHECK(warnings_of(kBase + "zero: {stage: 2, " + parameters + "}\n")
            .find("zero.offload_param.device: has no effect: stage 3 alone shards parameters") != std::string::npos);
}

TEST_CASE("a key without effect is named in a warning", "[recipe_config]") {
  CHECK(
      warnings_of(kBase + "training: {ddp_timeout: 1800}\n").find("r.yaml:5:12: training.ddp_timeout: has no effect") !=
      std::string::npos);
  CHECK(warnings_of(kBase + "training: {eval_steps: 5}\n").find("eval_strategy is not steps") != std::string::npos);
  CHECK(warnings_of(kBase).empty());
}

TEST_CASE("overrides replace values, make sections, and have their own place in faults", "[recipe_config]") {
  const RecipeReading reading = read_recipe_text(
      kBase, "r.yaml", {"lora.r=8", "training.learning_rate=1e-3", "data.train=[a.jsonl, {path: b.jsonl, weight: 2}]"});
  REQUIRE(reading.is_ok());
  CHECK(reading.config.lora->r == 8);
  CHECK(reading.config.training.learning_rate == 1e-3);
  CHECK(reading.config.data.train[1].weight == 2);
  CHECK_FALSE(read_recipe_text(kBase + "lora: {r: 3}\n", "r.yaml", {"lora=null"}).config.lora);
  CHECK(faults_of(kBase, {"seed=1", "training.lr=3"}).starts_with("command line: override 2: training.lr: "));
  CHECK(faults_of(kBase, {"foo"}).find("is no setting") != std::string::npos);
}

TEST_CASE("evaluation settings need evaluation rows", "[recipe_config]") {
  check_fault("training: {eval_strategy: epoch}\n", "needs evaluation rows");
  check_fault("training: {load_best_model_at_end: true}\n", "needs evaluations");
  CHECK(faults_of(kBase + "training: {eval_strategy: epoch}\n", {"data.eval_fraction=0.1"}).empty());
}

TEST_CASE("the best metric is one that the evaluations report", "[recipe_config]") {
  const std::string best =
      "data: {train: [a.jsonl], eval: [b.jsonl]}\ntraining: {eval_strategy: epoch, save_strategy: best";
  const std::string base = "recipe: sft\noutput_dir: o\nmodel: {path: m}\n";
  const auto faults = [&](const std::string& rest) { return read_recipe_text(base + best + rest, "r.yaml").faults; };
  for (const char* metric : {"loss", "eval_loss", "perplexity", "mean_token_accuracy"})
    CHECK(faults(std::string(", metric_for_best_model: ") + metric + "}\n").empty());
  CHECK(faults(", metric_for_best_model: tool_call}\neval: {metrics: [tool_call]}\n").empty());
  CHECK(faults(", metric_for_best_model: tool_call}\n").size() == 1);
  CHECK(faults(", metric_for_best_model: loss}\neval: {metrics: [tool_call]}\n").size() == 1);
  CHECK(faults("}\neval: {metrics: [tool_call]}\n").size() == 1);  // loss is the default
}

TEST_CASE("save_steps are a multiple of eval_steps also where those are the default", "[recipe_config]") {
  const std::string base =
      "recipe: sft\noutput_dir: o\nmodel: {path: m}\ndata: {train: [a.jsonl], eval: [b.jsonl]}\n"
      "training: {eval_strategy: steps, load_best_model_at_end: true, ";
  const auto num_faults = [&](const char* rest) { return read_recipe_text(base + rest, "r.yaml").faults.size(); };
  CHECK(num_faults("save_steps: 500}\n") == 0);
  CHECK(num_faults("save_steps: 100}\n") == 1);  // evaluations every 500
  CHECK(num_faults("save_steps: 100, logging_steps: 50}\n") == 0);
  CHECK(num_faults("save_steps: 100, logging_steps: 30}\n") == 1);
  CHECK(num_faults("save_steps: 7, logging_steps: 1}\n") == 0);  // written, so it is followed as in transformers
}

TEST_CASE("evaluations follow logging_steps where it is written, also as 1", "[recipe_config]") {
  const auto eval_steps = [](const std::string& rest) {
    RecipeReading reading = read_recipe_text(
        "recipe: sft\noutput_dir: o\nmodel: {path: m}\ndata: {train: [a.jsonl], eval: [b.jsonl]}\n"
        "training: {eval_strategy: steps" +
            rest + "}\n",
        "r.yaml");
    REQUIRE(reading.is_ok());
    recipe_config::resolve_defaults(reading.config, false);
    return reading.config.training.eval_steps.value_or(0);
  };
  CHECK(eval_steps("") == 500);
  CHECK(eval_steps(", logging_steps: 1") == 1);
  CHECK(eval_steps(", logging_steps: 20") == 20);
  CHECK(eval_steps(", logging_steps: 1, eval_steps: 3") == 3);
}

TEST_CASE("a leading ~/ of a path becomes HOME", "[recipe_config]") {
  const RecipeReading reading = read_recipe_text(
      "recipe: sft\noutput_dir: ~/runs/a\nmodel: {path: ~/m}\nlora: {adapter: ~/adapter}\n"
      "data: {train: [~/a.jsonl, {path: ~/b.jsonl, weight: 2}, c/~/d.jsonl], eval: ~/e.json, chat_template: "
      "~/t.jinja}\n"
      "training: {output_dir: ~/runs/a, resume_from_checkpoint: ~/runs/a/checkpoint-5}\n",
      "r.yaml", {"output_dir=~/runs/a"});
  for (const config::Fault& fault : reading.faults) FAIL_CHECK(to_string(fault));
  const std::string home = std::getenv("HOME");
  const recipe_config::RecipeConfig& config = reading.config;
  CHECK(config.output_dir == home + "/runs/a");
  CHECK(config.training.output_dir == home + "/runs/a");
  CHECK(config.model.path == home + "/m");
  CHECK(config.lora->adapter == home + "/adapter");
  CHECK(config.data.train[0].path == home + "/a.jsonl");
  CHECK(config.data.train[1].path == home + "/b.jsonl");
  CHECK(config.data.train[2].path == "c/~/d.jsonl");
  CHECK(config.data.eval[0].path == home + "/e.json");
  CHECK(config.data.chat_template == home + "/t.jinja");
  CHECK(config.training.resume_from_checkpoint.directory == home + "/runs/a/checkpoint-5");
}

TEST_CASE("report_to names none alone", "[recipe_config]") {
  check_fault("training: {report_to: [none, tensorboard]}\n", "training.report_to: has `none` beside others");
  CHECK(faults_of(kBase + "training: {report_to: [none]}\n").empty());
  CHECK(faults_of(kBase + "training: {report_to: none}\n").empty());
}

TEST_CASE("load_recipe throws one usage error with every fault", "[recipe_config]") {
  std::vector<std::string> warnings;
  try {
    recipe_config::load_recipe("does/not/exist.yaml", {}, warnings);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kUsage);
    CHECK(error.message().find("does/not/exist.yaml: cannot be read: No such file") != std::string::npos);
  }
}

TEST_CASE("each shipped recipe is free of faults and warnings", "[recipe_config]") {
  // the files that a recipe names are relative to where it is run
  const test::WorkingDirectory at_root(DSFT_SOURCE_DIR);
  int num_recipes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(DSFT_SOURCE_DIR "/recipes")) {
    if (entry.path().extension() != ".yaml") continue;
    ++num_recipes;
    const RecipeReading reading = recipe_config::read_recipe(entry.path());
    for (const config::Fault& fault : reading.faults) FAIL_CHECK(to_string(fault));
    for (const config::Fault& warning : reading.warnings) FAIL_CHECK(to_string(warning));
  }
  CHECK(num_recipes > 0);
}

TEST_CASE("mutated recipes never crash: they are read, or every fault has a message", "[recipe_config]") {
  const std::string source =
      kBase +
      "lora: &l {r: 16, target_modules: [q_proj], rank_pattern: {a: 1}}\n"
      "training:\n  learning_rate: 2e-4\n  report_to: [tensorboard]\n  lr_scheduler_kwargs: {num_cycles: 1}\n";
  const std::string bytes = "{}[]:,&*!|>'\"#%@-?\n \t0e.<~\x01\xff";
  for (uint64_t round = 0; round < 3000; ++round) {
    const CounterStream stream(1, hash_name("mutation"), round);
    std::string text = source;
    const uint64_t num_changes = 1 + stream.below(0, 4);
    for (uint64_t i = 0; i < num_changes; ++i) {
      const size_t place = stream.below(3 * i + 1, text.size());
      const char byte = bytes[stream.below(3 * i + 2, bytes.size())];
      switch (stream.below(3 * i + 3, 3)) {
        case 0:
          text[place] = byte;
          break;
        case 1:
          text.insert(place, 1, byte);
          break;
        default:
          text.erase(place, 1 + stream.below(3 * i + 4, 8));
      }
    }
    const RecipeReading reading = read_recipe_text(text, "r.yaml");
    for (const config::Fault& fault : reading.faults) {
      if (fault.message.empty() || fault.position.file.empty()) FAIL("a fault without message or place for:\n" << text);
    }
    if (reading.is_ok()) recipe_config::to_yaml(reading.config);
  }
}
