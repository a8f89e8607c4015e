// A recipe of kind grpo: GRPOConfig's defaults and what its section refuses or warns of.
#include "catch_amalgamated.hpp"
#include "recipe_config/recipe_config.h"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;

namespace {

const std::string kGrpo = "recipe: grpo\noutput_dir: r\nmodel: {path: a}\ndata: {train: t.jsonl}\n";

// With two rewards.
recipe_config::RecipeReading read_grpo(const std::string& addition, std::vector<std::string> overrides = {}) {
  overrides.emplace_back("grpo.rewards=[unique_characters, json_valid]");
  return recipe_config::read_recipe_text(kGrpo + addition, "r.yaml", overrides);
}

std::string grpo_faults(const std::string& addition) {
  std::string all;
  for (const config::Fault& fault : read_grpo(addition).faults) all += to_string(fault) + "\n";
  return all;
}

std::string grpo_warnings(const std::string& addition) {
  const auto reading = read_grpo(addition);
  std::string all;
  for (const config::Fault& fault : reading.faults) all += "fault: " + to_string(fault) + "\n";
  for (const config::Fault& warning : reading.warnings) all += to_string(warning) + "\n";
  return all;
}

}  // namespace

TEST_CASE("a grpo recipe has GRPOConfig's defaults", "[recipe_config]") {
  auto reading = read_grpo("lora: {}\n");
  REQUIRE(reading.is_ok());
  CHECK(reading.warnings.empty());
  recipe_config::resolve_defaults(reading.config, false);
  const train::TrainingConfig& training = reading.config.training;
  CHECK(training.learning_rate == 1e-6);
  CHECK(training.logging_steps == 10);
  CHECK(training.gradient_checkpointing == train::GradientCheckpointing::kTrue);
  CHECK(training.per_device_train_batch_size == 8);
  CHECK(training.num_train_epochs == 3);
  CHECK(training.lr_scheduler_type == optim::SchedulerType::kLinear);
  CHECK(training.warmup_ratio == 0);
  const rl::GrpoConfig& grpo = reading.config.grpo.value();
  CHECK(grpo.num_generations == 8);
  CHECK(grpo.max_completion_length == 512);
  CHECK(grpo.loss_type == rl::LossType::kDapo);
  CHECK(grpo.use_bias_correction_kl);
  CHECK(grpo.sapo_temperature_neg == 1.05);
}

TEST_CASE("written keys win over them, and no section stands for the defaults", "[recipe_config]") {
  const auto reading =
      read_grpo("training: {logging_steps: 3}\n", {"training.per_device_train_batch_size=4", "grpo.loss_type=cispo"});
  REQUIRE(reading.is_ok());
  CHECK(reading.config.training.logging_steps == 3);
  CHECK(reading.config.training.per_device_train_batch_size == 4);
  CHECK(reading.config.grpo->loss_type == rl::LossType::kCispo);
  const auto removed = read_grpo("grpo: {beta: 1}\n", {"grpo=null"});
  REQUIRE(removed.is_ok());
  CHECK(removed.config.grpo.value().beta == 0);
}

TEST_CASE("a resolved grpo recipe reads back the same without a word", "[recipe_config]") {
  auto reading = read_grpo("grpo: {loss_type: grpo, scale_rewards: false, beta: 0.04, reward_weights: [1, 0.5]}\n");
  REQUIRE(reading.is_ok());
  CHECK(reading.config.grpo->scale_rewards == rl::ScaleRewards::kNone);
  recipe_config::resolve_defaults(reading.config, false);
  const std::string resolved = recipe_config::to_yaml(reading.config);
  const auto again = recipe_config::read_recipe_text(resolved, "resolved.yaml");
  REQUIRE(again.is_ok());
  CHECK(again.warnings.empty());
  CHECK(recipe_config::to_yaml(again.config) == resolved);
}

TEST_CASE("what GRPOConfig refuses, the section refuses", "[recipe_config]") {
  CHECK_THAT(grpo_faults("grpo: {num_generations: 1}\n"), ContainsSubstring("grpo.num_generations: must be"));
  CHECK_THAT(grpo_faults("grpo:\n  steps_per_generation: 2\n  generation_batch_size: 16\n"),
             ContainsSubstring("r.yaml:7:3: grpo.generation_batch_size: contradicts `grpo.steps_per_generation` at "
                               "line 6"));
  CHECK_THAT(grpo_faults("grpo: {generation_batch_size: 12}\n"),
             ContainsSubstring("12 completions are no whole groups of num_generations: 8"));
  CHECK_THAT(grpo_faults("grpo: {top_p: 0}\n"), ContainsSubstring("grpo.top_p: must be"));
  CHECK_THAT(grpo_faults("grpo: {loss_type: ppo}\n"), ContainsSubstring("grpo.loss_type"));
  CHECK_THAT(grpo_faults("training: {auto_find_batch_size: true}\n"),
             ContainsSubstring("training.auto_find_batch_size: halves the micro-batch"));
  CHECK_THAT(grpo_faults("lora: {}\ngrpo: {beta: 0.1, sync_ref_model: true}\n"),
             ContainsSubstring("grpo.sync_ref_model: the reference of a run with LoRA is not moved"));
  CHECK(grpo_faults("grpo: {beta: 0.1, sync_ref_model: true}\n") == "");
  CHECK_THAT(grpo_faults("grpo: {max_prompt_length: 256}\n"), ContainsSubstring("prompts are not cut"));
  CHECK_THAT(grpo_faults("grpo: {reward_funcs: f}\n"),
             ContainsSubstring("is TRL's spelling: write `grpo.rewards, a list"));
  CHECK_THAT(grpo_faults("grpo: {generation_kwargs: {num_beams: 2}}\n"), ContainsSubstring("write temperature, top_p"));
  const auto without = recipe_config::read_recipe_text(kGrpo + "grpo: {beta: 0}\n", "r.yaml");
  REQUIRE(without.faults.size() == 1);
  CHECK_THAT(to_string(without.faults[0]), ContainsSubstring("grpo.rewards: needs at least one"));
  CHECK_THAT(grpo_faults("grpo: {reward_weights: [1]}\n"), ContainsSubstring("grpo.reward_weights"));
}

TEST_CASE("a dropout that is to be disabled and asked for is a conflict, at its place", "[recipe_config]") {
  const std::string disabled = "lora:\n  lora_dropout: 0.05\ngrpo:\n  disable_dropout: true\n";
  CHECK_THAT(grpo_faults(disabled), ContainsSubstring("r.yaml:8:3: grpo.disable_dropout: contradicts "
                                                      "`lora.lora_dropout` at line 6"));
  CHECK(grpo_faults("lora: {lora_dropout: 0}\ngrpo: {disable_dropout: true}\n") == "");
  CHECK(grpo_faults("lora: {lora_dropout: 0.05}\n") == "");
  CHECK(grpo_faults("grpo: {disable_dropout: true}\n") == "");
}

TEST_CASE("agents are two or more, each with a name and an instruction", "[recipe_config]") {
  const auto with = [](const std::string& agents) { return "grpo:\n  agents: [" + agents + "]\n"; };
  const std::string first = "{name: a, system_prompt: Be brief.}";
  const auto reading = read_grpo(with(first + ", {name: b, system_prompt: Take time., weight: 2}") +
                                 "  ensemble: {agreement_weight: 0.5}\n  stop_strings: [\"</response>\"]\n");
  REQUIRE(reading.is_ok());
  CHECK(reading.warnings.empty());
  const rl::EnsembleSettings& ensemble = reading.config.grpo->ensemble;
  CHECK(ensemble.weights() == std::vector<double>{1, 2});
  CHECK(ensemble.agents.at(1).system_prompt == "Take time.");
  CHECK(ensemble.combination.agreement_weight == 0.5);
  CHECK(reading.config.grpo->stop_strings == std::vector<std::string>{"</response>"});
  CHECK_THAT(grpo_faults(with(first)), ContainsSubstring("grpo.agents: has one agent, `a`"));
  CHECK_THAT(grpo_faults(with(first + ", " + first)), ContainsSubstring("two agents called `a`"));
  CHECK_THAT(grpo_faults(with(first + ", {name: b}")), ContainsSubstring("`system_prompt` is required"));
  CHECK_THAT(grpo_faults(with(first + ", {name: b, prompt: x, system_prompt: y}")),
             ContainsSubstring("`prompt` is no key of an agent"));
  CHECK_THAT(grpo_faults(with(first + ", {name: b/c, system_prompt: y}")), ContainsSubstring("a name has no slash"));
  CHECK_THAT(grpo_faults(with(first + ", {name: b, system_prompt: \" \"}")),
             ContainsSubstring("an agent `b` without a `system_prompt`"));
  CHECK_THAT(grpo_faults(with(first + ", {name: b, system_prompt: y, weight: 0}")), ContainsSubstring("`weight` must"));
  CHECK_THAT(grpo_faults("grpo: {stop_strings: [\"\"]}\n"), ContainsSubstring("would end every completion"));
  CHECK_THAT(grpo_faults(with(first + ", {name: b, system_prompt: y}") + "  generation_batch_size: 24\n"),
             ContainsSubstring("24 completions are no whole number of prompts x 2 agents x num_generations: 8"));
  const std::string two = with(first + ", {name: b, system_prompt: y}");
  CHECK_THAT(grpo_faults(two + "  ensemble: {combine: learned}\n"),
             ContainsSubstring("grpo.ensemble.combine: is learned, and the answers that the ensemble decodes need"));
  CHECK_THAT(grpo_warnings(two + "  ensemble: {combine: vote, pool_learning_rate: 0.1}\n"),
             ContainsSubstring("grpo.ensemble.pool_learning_rate: has no effect: combine is vote"));
  CHECK_THAT(grpo_warnings("grpo: {ensemble: {agreement_weight: 0.1}}\n"),
             ContainsSubstring("grpo.ensemble.agreement_weight: has no effect: there are no agents"));
}

TEST_CASE("a run with agents is evaluated, and its best may be that of the ensemble", "[recipe_config]") {
  const auto faults_of = [](const std::string& metric, const std::string& rewards, const std::string& combine) {
    const auto reading = recipe_config::read_recipe_text(
        kGrpo +
            "grpo: {agents: [{name: a, system_prompt: Be brief.}, {name: b, system_prompt: Take time.}], ensemble: "
            "{combine: " +
            combine + "}}\ntraining: {eval_strategy: steps, eval_on_start: true, eval_steps: 5, save_steps: 5, " +
            "load_best_model_at_end: true, metric_for_best_model: \"" + metric + "\"}\n",
        "r.yaml", {"data.eval=[e.jsonl]", "grpo.rewards=[" + rewards + "]"});
    std::string all;
    for (const config::Fault& fault : reading.faults) all += to_string(fault) + "\n";
    return all;
  };
  for (const char* metric :
       {"ensemble/accuracy", "eval_agents/b/accuracy", "agents/a/consistency", "rewards/agreement/mean", "eval_pass@1"})
    CHECK(faults_of(metric, "math_answer", "vote").empty());
  CHECK(faults_of("ensemble/consistency", "json_valid", "vote").empty());
  CHECK_THAT(faults_of("ensemble/accuracy", "json_valid", "vote"), ContainsSubstring("is not measured"));  // by nothing
  CHECK(faults_of("ensemble/loss", "math_answer", "learned").empty());
  CHECK_THAT(faults_of("ensemble/loss", "math_answer", "mean"), ContainsSubstring("is not measured"));
}

TEST_CASE("a reference is kept where it is more than the base model", "[recipe_config]") {
  const auto keeps = [](const std::string& lora, const char* beta) {
    const auto reading = read_grpo(lora + "grpo: {beta: " + beta + "}\n");
    REQUIRE(reading.is_ok());
    return reading.config.keeps_reference();
  };
  CHECK(keeps("", "0.1"));
  CHECK_FALSE(keeps("", "0"));
  CHECK_FALSE(keeps("lora: {}\n", "0.1"));
  CHECK(keeps("lora: {bias: lora_only}\n", "0.1"));
  CHECK(keeps("lora: {modules_to_save: [lm_head]}\n", "0.1"));
  CHECK(keeps("lora: {adapter: runs/a}\n", "0.1"));
}

TEST_CASE("keys of vLLM and of other settings are named where they have no effect", "[recipe_config]") {
  CHECK_THAT(grpo_warnings("grpo: {use_vllm: true, vllm_mode: server}\n"),
             ContainsSubstring("grpo.use_vllm: has no effect: completions are sampled in the process that trains") &&
                 ContainsSubstring("grpo.vllm_mode: has no effect"));
  CHECK_THAT(grpo_warnings("grpo: {sapo_temperature_pos: 2}\n"), ContainsSubstring("has no effect: loss_type is dapo"));
  CHECK(grpo_warnings("grpo: {loss_type: sapo, sapo_temperature_pos: 2}\n") == "");
  CHECK_THAT(grpo_warnings("grpo: {loss_type: vespo, delta: 2}\n"), ContainsSubstring("grpo.delta: has no effect"));
  CHECK_THAT(grpo_warnings("grpo: {entropy_target: 2}\n"), ContainsSubstring("use_adaptive_entropy is false"));
  CHECK_THAT(grpo_warnings("grpo: {sync_ref_model: true}\n"), ContainsSubstring("there is no reference policy"));
  CHECK_THAT(grpo_warnings("grpo: {importance_sampling_level: sequence}\n"),
             ContainsSubstring("GSPO is loss_type: grpo"));
  CHECK(grpo_warnings("grpo: {importance_sampling_level: sequence, loss_type: grpo}\n") == "");
  CHECK_THAT(grpo_warnings("grpo: {loss_type: luspo}\n"), ContainsSubstring("luspo is meant with"));
  const auto sft = recipe_config::read_recipe_text(
      "recipe: sft\noutput_dir: r\nmodel: {path: a}\ndata: {train: t.jsonl}\ngrpo: {beta: 1}\n", "r.yaml");
  REQUIRE(sft.warnings.size() == 1);
  CHECK_THAT(to_string(sft.warnings[0]), ContainsSubstring("grpo: has no effect: recipe is sft"));
}

TEST_CASE("keys that a policy's prompts and evaluations do not use are named", "[recipe_config]") {
  const auto warned = [](const std::string& keys, const std::string& addition = "") {
    std::string all;
    const auto reading = recipe_config::read_recipe_text(
        "recipe: grpo\noutput_dir: r\nmodel: {path: a}\ndata: {train: t.jsonl" + keys + "}\n" + addition, "r.yaml",
        {"grpo.rewards=[json_valid]"});
    REQUIRE(reading.is_ok());
    for (const config::Fault& warning : reading.warnings) all += to_string(warning) + "\n";
    return all;
  };
  for (const char* key : {"max_length: 512", "overlong: drop", "packing: false", "loss_on: all",
                          "unsupervised_rows: error", "num_workers: 4"}) {
    const std::string written = key, name = written.substr(0, written.find(':'));
    CHECK_THAT(warned(", " + written), ContainsSubstring("data." + name + ": has no effect"));
  }
  CHECK(warned(", max_length: 2048, packing: true, num_workers: null, shuffle: false, eval_fraction: 0.1") == "");
  CHECK_THAT(warned("", "training: {per_device_eval_batch_size: 4}\n"),
             ContainsSubstring("training.per_device_eval_batch_size: has no effect"));
  CHECK(warned("", "training: {per_device_eval_batch_size: 8}\n") == "");  // the default of a grpo recipe
}

TEST_CASE("a prompt has no more completions than random numbers have names for", "[recipe_config]") {
  const std::string agents =
      ", agents: [{name: a, system_prompt: A}, {name: b, system_prompt: B}, {name: c, system_prompt: C}]}\n";
  CHECK(grpo_faults("grpo: {num_generations: 16384}\n") == "");
  CHECK_THAT(grpo_faults("grpo: {num_generations: 16385}\n"), ContainsSubstring("grpo.num_generations: must be"));
  CHECK_THAT(grpo_faults("grpo: {num_generations_eval: 16385}\n"),
             ContainsSubstring("grpo.num_generations_eval: must be"));
  CHECK(grpo_faults("grpo: {num_generations: 5461" + agents) == "");
  CHECK_THAT(grpo_faults("grpo: {num_generations: 5462" + agents),
             ContainsSubstring("grpo.num_generations: 5462 x 3 agents = 16386 completions of a prompt"));
}

TEST_CASE("a grpo recipe is evaluated by its rewards, and its best is that of a number they give", "[recipe_config]") {
  const std::string best =
      "training: {eval_strategy: steps, eval_steps: 5, save_steps: 5, load_best_model_at_end: true";
  auto reading = read_grpo(best + "}\n", {"data.eval=[e.jsonl]", "grpo.num_generations_eval=6"});
  REQUIRE(reading.is_ok());
  CHECK(reading.warnings.empty());
  CHECK(reading.config.eval.metrics == std::vector{evaluate::Metric::kPassAtK});
  recipe_config::resolve_defaults(reading.config, false);
  CHECK(reading.config.training.metric_for_best_model == "reward");
  CHECK(reading.config.training.greater_is_better == true);
  const auto faults_of = [&](const std::string& addition, std::vector<std::string> overrides = {}) {
    overrides.insert(overrides.end(), {"data.eval=[e.jsonl]", "grpo.num_generations_eval=6"});
    std::string all;
    for (const config::Fault& fault : read_grpo(addition, overrides).faults) all += to_string(fault) + "\n";
    return all;
  };
  for (const char* name : {"eval_pass@1", "pass@4", "pass@6", "eval_rewards/json_valid/mean"})
    CHECK(faults_of(best + ", metric_for_best_model: \"" + name + "\"}\n").empty());
  CHECK_THAT(faults_of(best + ", metric_for_best_model: loss}\n"),
             ContainsSubstring("`loss` is not measured: the evaluation of a policy gives reward, "));
  CHECK_THAT(faults_of(best + ", metric_for_best_model: \"pass@8\"}\n"), ContainsSubstring("`pass@8` is not measured"));
  CHECK_THAT(faults_of("eval: {metrics: [loss]}\n"), ContainsSubstring("evaluated by its rewards; write [pass_at_k]"));
  CHECK_THAT(faults_of("eval: {pass_reward: maths}\n"),
             ContainsSubstring("`maths` is no reward of grpo.rewards: write unique_characters, json_valid or reward"));
  CHECK(faults_of("eval: {pass_reward: json_valid, pass_threshold: 0.5, num_samples: 3}\n").empty());
  CHECK_THAT(grpo_warnings("eval: {max_new_tokens: 7}\n"), ContainsSubstring("pass_at_k samples as section grpo says"));
  const auto sft = recipe_config::read_recipe_text(
      "recipe: sft\noutput_dir: r\nmodel: {path: a}\ndata: {train: t.jsonl}\neval: {metrics: [pass_at_k]}\n", "r.yaml",
      {});
  REQUIRE(sft.faults.size() == 1);
  CHECK_THAT(to_string(sft.faults[0]), ContainsSubstring("measured by grpo.rewards, but recipe is sft"));
}

TEST_CASE("a regular expression that is none is a fault of the recipe, at its place", "[recipe_config]") {
  const auto reading = recipe_config::read_recipe_text(
      kGrpo + "grpo:\n  rewards:\n    - json_valid\n    - {name: format, regex: '(a'}\n", "r.yaml", {});
  REQUIRE(reading.faults.size() == 1);
  CHECK_THAT(to_string(reading.faults[0]), ContainsSubstring("r.yaml:6:3: grpo.rewards") &&
                                               ContainsSubstring("the reward `format` has a faulty `regex`") &&
                                               ContainsSubstring("\"(a\" is faulty at character 2"));
}
