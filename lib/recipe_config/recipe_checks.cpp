#include "recipe_config/recipe_checks.h"

#include <algorithm>

#include "base/error.h"
#include "base/nearest_name.h"
#include "recipe_config/recipe_defaults.h"
#include "rewards/built_in.h"

namespace dsft::recipe_config {
namespace {

using spec::ComputeDtype;
using train::EvalStrategy;

void validate_dtype(const RecipeConfig& config, config::Section& top) {
  const auto check = [&](const char* key, const std::optional<bool>& flag, ComputeDtype dtype) {
    if (!flag.value_or(false) || !config.model.dtype || *config.model.dtype == dtype) return;
    top.conflict(key, "model.dtype", "a model has one type; write model.dtype alone");
  };
  check("training.bf16", config.training.bf16, ComputeDtype::kBf16);
  check("training.fp16", config.training.fp16, ComputeDtype::kFp16);
  const bool is_fp16 =
      config.model.dtype ? *config.model.dtype == ComputeDtype::kFp16 : config.training.fp16.value_or(false);
  if (!is_fp16 && config.training.loss_scaler != optim::LossScalerConfig())
    top.no_effect("training.loss_scaler", "the loss is scaled in fp16 alone");
}

void validate_places(const RecipeConfig& config, config::Section& top) {
  const auto& training = config.training;
  if (training.output_dir && *training.output_dir != config.output_dir) {
    top.conflict("training.output_dir", "output_dir", "a run has one output folder");
  }
  if (training.seed && *training.seed != config.seed) top.conflict("training.seed", "seed", "a run has one seed");
  const bool has_output = !config.output_dir.empty() || (training.output_dir && !training.output_dir->empty());
  if (!has_output) top.fault("output_dir", "is required: the folder that the run writes");
}

// Of several agents and their ensemble.
void append_agent_metrics(const rl::GrpoConfig& config, std::vector<std::string>& names) {
  const rl::EnsembleSettings& ensemble = config.ensemble;
  if (!ensemble.has_agents()) return;
  std::vector<std::string> of_whom = {"ensemble"};
  for (const rl::AgentConfig& agent : ensemble.agents) of_whom.push_back("agents/" + agent.name);
  const bool are_judged = rewards::find_math_answer_reward(config.judged_by.rewards).has_value();
  for (const std::string& who : of_whom) {
    if (are_judged) names.push_back(who + "/accuracy");
    names.push_back(who + "/consistency");
  }
  if (ensemble.combination.combine == rl::Combine::kLearned) {
    names.emplace_back("ensemble/loss");
    for (const rl::AgentConfig& agent : ensemble.agents) names.push_back(concat("agents/", agent.name, "/pool_weight"));
  }
  for (const char* what : {"/mean", "/std"}) names.push_back(concat("rewards/", rl::kAgreement, what));
}

// The names that the evaluation of a policy reports (lib/rl/policy_evaluation.h), without "eval_".
std::vector<std::string> reported_metrics(const rl::GrpoConfig& config) {
  std::vector<std::string> names = {"reward", "reward_std", "frac_reward_zero_std"};
  for (const int64_t k : config.reported_k()) names.push_back(concat("pass@", k));
  for (const rewards::RewardConfig& reward : config.judged_by.rewards)
    for (const char* what : {"/mean", "/std"}) names.push_back("rewards/" + reward.metric_name() + what);
  for (const char* what : {"mean_length", "min_length", "max_length", "mean_terminated_length", "min_terminated_length",
                           "max_terminated_length", "clipped_ratio"})
    names.push_back(concat("completions/", what));
  names.emplace_back("rewards/failed");
  append_agent_metrics(config, names);
  return names;
}

// The names that the evaluations of eval.metrics report (lib/evaluate), without "eval_".
std::vector<std::string> reported_metrics(const evaluate::EvalConfig& config) {
  std::vector<std::string> names;
  for (const evaluate::Metric metric : config.metrics) {
    names.emplace_back(config::to_word(metric));
    if (metric == evaluate::Metric::kLoss) names.insert(names.end(), {"perplexity", "mean_token_accuracy"});
  }
  return names;
}

void validate_metric(const RecipeConfig& config, config::Section& top) {
  std::string name = config.training.metric_for_best_model.value_or(default_best_metric(config.recipe));
  if (name.starts_with("eval_")) name.erase(0, 5);
  const bool is_grpo = config.recipe == RecipeKind::kGrpo;
  const std::vector<std::string> reported = is_grpo ? reported_metrics(*config.grpo) : reported_metrics(config.eval);
  if (std::find(reported.begin(), reported.end(), name) != reported.end()) return;
  top.fault("training.metric_for_best_model",
            concat("`", name, "` is not measured: ", is_grpo ? "the evaluation of a policy" : "eval.metrics", " gives ",
                   join_words(reported)));
}

// A policy is evaluated by its rewards, and nothing else has any.
void validate_eval_metrics(const RecipeConfig& config, config::Section& top) {
  const bool is_grpo = config.recipe == RecipeKind::kGrpo;
  for (const evaluate::Metric metric : config.eval.metrics) {
    if (is_grpo == (metric == evaluate::Metric::kPassAtK)) continue;
    const std::string_view word = config::to_word(metric);
    top.fault("eval.metrics",
              is_grpo ? concat("has ", word, ": a grpo recipe is evaluated by its rewards; write [pass_at_k]")
                      : concat("has ", word, ", which is measured by grpo.rewards, but recipe is ",
                               config::to_word(config.recipe)));
  }
  if (!is_grpo || !config.eval.pass_reward) return;
  std::vector<std::string> names;
  for (const rewards::RewardConfig& reward : config.grpo->judged_by.rewards) names.push_back(reward.metric_name());
  names.emplace_back(evaluate::kSumOfRewards);
  if (std::find(names.begin(), names.end(), *config.eval.pass_reward) == names.end())
    top.fault("eval.pass_reward", concat("`", *config.eval.pass_reward, "` is no reward of grpo.rewards: write ",
                                         join_words(names, " or ")));
}

void validate_evaluation(const RecipeConfig& config, config::Section& top) {
  const auto& training = config.training;
  const bool has_data = !config.data.eval.empty() || config.data.eval_fraction > 0;
  if (!has_data && training.eval_strategy != EvalStrategy::kNo) {
    top.fault("training.eval_strategy", "needs evaluation rows: write data.eval or data.eval_fraction");
  }
  validate_eval_metrics(config, top);
  if (!has_data && training.eval_on_start) {
    top.fault("training.eval_on_start", "needs evaluation rows: write data.eval or data.eval_fraction");
  }
  if (tracks_best(training) || training.metric_for_best_model) validate_metric(config, top);
}

// A rank that lacks memory alone would leave the others in the gathering of parameters.
void validate_stage(const RecipeConfig& config, config::Section& top) {
  if (config.zero.stage == 3 && config.training.auto_find_batch_size)
    top.conflict("training.auto_find_batch_size", "zero.stage",
                 "its passes would need all ranks' parameters while one of them is short of memory; choose "
                 "per_device_train_batch_size, or a stage below 3");
  if (config.zero.stage == 3 && config.lora && !config.zero.stage3_gather_16bit_weights_on_model_save)
    top.no_effect("zero.stage3_gather_16bit_weights_on_model_save", "adapters are always written whole");
}

// Of rows a policy takes the prompt alone, and evaluations sample as rounds do. A value equal to its default asks for
// nothing: resolved.yaml writes them all.
void name_keys_of_sft(const RecipeConfig& config, config::Section& top) {
  RecipeConfig none;
  apply_recipe_defaults(RecipeKind::kGrpo, none);
  const auto no_effect = [&](const char* key, bool is_changed, const char* reason) {
    if (is_changed) top.no_effect(key, reason);
  };
  const char* const whole = "a grpo recipe takes prompts whole, and grpo.max_completion_length bounds what is sampled";
  const char* const sampled = "a grpo recipe trains on all tokens of the completions that it samples";
  const data::DataConfig& data = config.data;
  no_effect("data.max_length", data.max_length != none.data.max_length, whole);
  no_effect("data.overlong", data.overlong != none.data.overlong, whole);
  no_effect("data.packing", data.packing != none.data.packing, "completions always lie end to end, without padding");
  no_effect("data.loss_on", data.loss_on != none.data.loss_on, sampled);
  no_effect("data.unsupervised_rows", data.unsupervised_rows != none.data.unsupervised_rows, sampled);
  no_effect(
      "data.num_workers", data.num_workers != none.data.num_workers,
      "a grpo recipe tokenises prompts alone, in one thread; how many processes compute a reward its `workers` say");
  no_effect("training.per_device_eval_batch_size",
            config.training.per_device_eval_batch_size != none.training.per_device_eval_batch_size,
            "an evaluation samples as many completions at once as memory has room for, as a round of training does");
}

void validate_grpo(const RecipeConfig& config, config::Section& top) {
  if (config.recipe != RecipeKind::kGrpo) {
    if (!top.has_fault("recipe")) top.no_effect("grpo", concat("recipe is ", config::to_word(config.recipe)));
    return;
  }
  config::Section section = top.inside("grpo");
  const rl::GrpoConfig& grpo = config.grpo.value();
  validate(grpo, section);
  name_keys_of_sft(config, top);
  for (const rewards::RewardConfig& reward : grpo.judged_by.rewards)
    if (const auto* built_in = std::get_if<rewards::BuiltInConfig>(&reward.function))
      if (std::string fault = rewards::find_regex_fault(*built_in); !fault.empty())
        section.fault("rewards", std::move(fault));
  if (grpo.sync_ref_model && grpo.beta != 0 && config.lora)
    section.fault(
        "sync_ref_model",
        "the reference of a run with LoRA is not moved, as in TRL: it is the model that training begins with. "
        "Leave it out, or train all weights (no section lora)");
  if (grpo.disable_dropout && config.lora && config.lora->lora_dropout > 0)
    top.conflict("grpo.disable_dropout", "lora.lora_dropout",
                 "there is no other dropout than LoRA's; write lora_dropout: 0, or leave disable_dropout out");
  if (config.training.auto_find_batch_size)
    top.fault("training.auto_find_batch_size",
              "halves the micro-batch, and a round of sampling then has no whole groups of completions; choose "
              "per_device_train_batch_size");
}

}  // namespace

void validate(const RecipeConfig& config, const config::Written& written, std::vector<config::Fault>& faults,
              std::vector<config::Fault>& warnings) {
  config::Section top("", written, faults, warnings);
  const auto check_section = [&](const char* name, const auto& section_config) {
    config::Section section = top.inside(name);
    validate(section_config, section);
  };
  check_section("model", config.model);
  if (config.lora) check_section("lora", *config.lora);
  check_section("data", config.data);
  check_section("training", config.training);
  check_section("zero", config.zero);
  check_section("eval", config.eval);
  validate_grpo(config, top);
  validate_places(config, top);
  validate_dtype(config, top);
  validate_evaluation(config, top);
  validate_stage(config, top);
  check_train_batch(config, faults);
}

}  // namespace dsft::recipe_config
