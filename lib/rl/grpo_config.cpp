#include "rl/grpo_config.h"

#include "base/error.h"
#include "config/fields.h"
#include "config/section.h"

namespace dsft::rl {
namespace {

using config::above;
using config::at_least;
using config::between;

constexpr double kMostSteps = 1e6;
constexpr const char* kNoServer =
    "completions are sampled in the process that trains, by its own weights; there is no vLLM";
constexpr const char* kOwnSampler = "dsft samples with an engine of its own";
constexpr const char* kOwnCompletions = "sampled completions are always written to completions.jsonl";

void describe_batch(config::Fields& fields, GrpoConfig& config) {
  fields.add("num_generations", config.num_generations, "Completions of a prompt: its group",
             between(2, kMostCompletionsOfPrompt));
  fields.add("num_generations_eval", config.num_generations_eval, "The same in evaluation; null: num_generations",
             between(1, kMostCompletionsOfPrompt));
  fields.add("max_completion_length", config.max_completion_length, "Longest completion in tokens", at_least(1));
  fields.add("generation_batch_size", config.generation_batch_size,
             "Completions of one round of sampling, over all ranks; null: by steps_per_generation", at_least(2));
  fields.add("steps_per_generation", config.steps_per_generation,
             "Micro-batches of a rank that one round of sampling fills; null: gradient_accumulation_steps",
             between(1, kMostSteps));
  fields.add("num_iterations", config.num_iterations, "Times that each completion is used", at_least(1));
}

void describe_sampling(config::Fields& fields, GrpoConfig& config) {
  fields.add("temperature", config.temperature, "Logits are divided by it, in sampling and in the loss", above(0));
  fields.add("top_p", config.top_p, "Sample from the likeliest tokens of this total probability",
             config::above_to(0, 1));
  fields.add("top_k", config.top_k, "Sample from so many likeliest tokens; 0: all", at_least(0));
  fields.add("min_p", config.min_p, "Leave out tokens below this share of the likeliest's probability", between(0, 1));
  fields.add("repetition_penalty", config.repetition_penalty, "Above 1: tokens that stand already get less likely",
             above(0));
  fields.add("stop_strings", config.stop_strings,
             "A completion ends with the token that completes one of these in its text, as with a token that ends "
             "answers");
}

void describe_rewards(config::Fields& fields, GrpoConfig& config) {
  rewards::describe_fields(fields, config.judged_by);
  fields.add("reward_weights", config.reward_weights, "Weights of the rewards, in their order; null: 1 each");
  fields.add("multi_objective_aggregation", config.multi_objective_aggregation,
             "Several rewards: normalise their sum, or sum them normalised each (GDPO)");
  fields.add("scale_rewards", config.scale_rewards,
             "What advantages are divided by: the deviation in the group (also true), in the batch, or none (also "
             "false)");
}

void describe_loss(config::Fields& fields, GrpoConfig& config) {
  fields.add("loss_type", config.loss_type, "Form of the policy's loss and of its mean (docs/grpo.md)");
  fields.add("importance_sampling_level", config.importance_sampling_level,
             "Ratios of tokens, or one for each sequence (GSPO)");
  fields.add("epsilon", config.epsilon, "Ratios are clipped at 1 - epsilon", at_least(0));
  fields.add("epsilon_high", config.epsilon_high, "and at 1 + epsilon_high, in cispo at epsilon_high; null: epsilon",
             at_least(0));
  fields.add("delta", config.delta, "Largest ratio of the term that is not clipped; null: any", above(0));
  fields.add("sapo_temperature_pos", config.sapo_temperature_pos, "sapo: temperature of advantages above 0", above(0));
  fields.add("sapo_temperature_neg", config.sapo_temperature_neg, "sapo: temperature of the others", above(0));
  fields.add("vespo_k_pos", config.vespo_k_pos, "vespo: exponent of the ratio where the advantage is at least 0");
  fields.add("vespo_lambda_pos", config.vespo_lambda_pos, "vespo: decay with the ratio there");
  fields.add("vespo_k_neg", config.vespo_k_neg, "vespo: exponent where the advantage is below 0");
  fields.add("vespo_lambda_neg", config.vespo_lambda_neg, "vespo: decay there");
  fields.add("mask_truncated_completions", config.mask_truncated_completions,
             "Completions that did not end by max_completion_length count for nothing");
  fields.add("off_policy_mask_threshold", config.off_policy_mask_threshold,
             "Leave out sequences of a negative advantage whose log-probability has fallen by more than this per "
             "token; null: none",
             above(0));
  fields.add("top_entropy_quantile", config.top_entropy_quantile,
             "Share of the update's tokens, those of the highest entropy, that the policy's loss takes", between(0, 1));
  fields.add("entropy_coef", config.entropy_coef, "Weight of the mean entropy, which the loss rewards");
  fields.add("use_adaptive_entropy", config.use_adaptive_entropy,
             "Move entropy_coef by entropy_coef_delta after each update, up while the entropy is at most "
             "entropy_target");
  fields.add("entropy_coef_min", config.entropy_coef_min, "Least coefficient then");
  fields.add("entropy_coef_max", config.entropy_coef_max, "Largest coefficient then");
  fields.add("entropy_coef_delta", config.entropy_coef_delta, "Change after an update", at_least(0));
  fields.add("entropy_target", config.entropy_target, "Entropy in nats above which there is no bonus", at_least(0));
}

void describe_reference(config::Fields& fields, GrpoConfig& config) {
  fields.add("beta", config.beta, "Weight of the KL term; 0: no reference policy", at_least(0));
  fields.add("use_bias_correction_kl", config.use_bias_correction_kl, "Multiply the KL term by the ratio");
  fields.add("sync_ref_model", config.sync_ref_model, "Move the reference towards the policy now and then");
  fields.add("ref_model_mixup_alpha", config.ref_model_mixup_alpha, "The policy's share of the new reference",
             between(0, 1));
  fields.add("ref_model_sync_steps", config.ref_model_sync_steps, "Updates between two such moves", at_least(1));
  fields.add("disable_dropout", config.disable_dropout, "Train without dropout");
}

/// Keyword arguments of GRPOConfig that a script may bring along and that have no place here.
void describe_others(config::Fields& fields) {
  for (const char* name :
       {"use_vllm", "vllm_mode", "vllm_model_impl", "vllm_enable_sleep_mode", "vllm_server_base_url",
        "vllm_server_host", "vllm_server_port", "vllm_server_timeout", "vllm_group_port", "vllm_gpu_memory_utilization",
        "vllm_max_model_length", "vllm_tensor_parallel_size", "vllm_importance_sampling_correction",
        "vllm_importance_sampling_mode", "vllm_importance_sampling_clip_max", "vllm_importance_sampling_clip_min",
        "vllm_importance_sampling_cap"})
    fields.no_effect(name, kNoServer);
  for (const char* name : {"use_transformers_continuous_batching", "transformers_continuous_batching_config",
                           "use_transformers_paged", "cache_implementation"})
    fields.no_effect(name, kOwnSampler);
  for (const char* name : {"log_completions", "log_multimodal", "num_completions_to_print", "log_unique_prompts"})
    fields.no_effect(name, kOwnCompletions);
  fields.no_effect("ds3_gather_for_generation", "zero.stage says where the weights are, in sampling too");
  fields.no_effect("pad_to_multiple_of", "there is no padding");
  fields.no_effect("remove_unused_columns", "the columns of a row are given to its rewards");
  fields.no_effect("router_aux_loss_coef", "no family here has experts");
  fields.refused("log_completions_hub_repo", "nothing is uploaded; `hf upload` does it afterwards", {});
  fields.refused("vllm_structured_outputs_regex", "sampling follows no grammar; a reward can ask for a format", {});
  fields.refused("generation_kwargs", "write temperature, top_p, top_k, min_p or repetition_penalty", {"{}"});
  fields.refused("max_prompt_length", "prompts are not cut; leave rows that are too long out of the data", {});
  fields.refused("max_tool_calling_iterations", "no tools are called while completions are sampled", {});
  fields.refused("cast_lm_head_to_fp32", "log-probabilities are summed in fp32 from logits of model.dtype", {"false"});
  fields.refused("model_init_kwargs", "its keys stand in section model (dtype, attn_implementation, revision)", {"{}"});
  fields.refused("trust_remote_code", "dsft runs no code of a checkpoint", {"false"});
}

void validate_batch(const GrpoConfig& config, config::Section& section) {
  if (!config.generation_batch_size) return;
  if (config.steps_per_generation)
    section.conflict("generation_batch_size", "steps_per_generation", "each follows from the other; write one");
  const int64_t num_askers = config.ensemble.num_askers();
  if (*config.generation_batch_size % (num_askers * config.num_generations) != 0)
    section.fault("generation_batch_size",
                  num_askers == 1
                      ? concat(*config.generation_batch_size,
                               " completions are no whole groups of num_generations: ", config.num_generations)
                      : concat(*config.generation_batch_size, " completions are no whole number of prompts x ",
                               num_askers, " agents x num_generations: ", config.num_generations));
}

void validate_agents(const GrpoConfig& config, config::Section& section) {
  validate(config.ensemble, section);
  if (!config.ensemble.has_agents()) return;
  const int64_t num_agents = config.ensemble.num_askers();
  if (num_agents * config.num_generations > kMostCompletionsOfPrompt)
    section.fault("num_generations",
                  concat(config.num_generations, " x ", num_agents, " agents = ", num_agents * config.num_generations,
                         " completions of a prompt, and there can be ", kMostCompletionsOfPrompt,
                         ": lower it, or have fewer agents"));
  for (const rewards::RewardConfig& reward : config.judged_by.rewards)
    if (reward.metric_name() == kAgreement)
      section.fault("rewards", concat("has a reward called `", kAgreement,
                                      "`, which is what the agents' agreement is called; give it another `label`"));
  if (config.ensemble.has_pool() && !rewards::find_math_answer_reward(config.judged_by.rewards))
    section.inside("ensemble")
        .fault("combine",
               concat("is ", config::to_word(config.ensemble.combination.combine),
                      ", and the answers that the ensemble decodes need a reward `math_answer` in grpo.rewards that "
                      "says whether they are right; add one, or write combine: vote"));
}

bool is_clipped(LossType type) {
  return type != LossType::kCispo && type != LossType::kSapo && type != LossType::kVespo;
}

/// A value equal to its default asks for nothing: resolved.yaml writes them all.
void validate_effects(const GrpoConfig& config, config::Section& section) {
  const GrpoConfig none;
  const LossType type = config.loss_type;
  const std::string of_type = concat("loss_type is ", config::to_word(type));
  const auto no_effect = [&](const char* key, bool is_changed, const std::string& reason) {
    if (is_changed) section.no_effect(key, reason);
  };
  if (!is_clipped(type)) {
    no_effect("epsilon", config.epsilon != none.epsilon && (type != LossType::kCispo || config.epsilon_high), of_type);
    no_effect("delta", config.delta.has_value(), of_type);
    if (type != LossType::kCispo) no_effect("epsilon_high", config.epsilon_high.has_value(), of_type);
  }
  if (type != LossType::kSapo) {
    no_effect("sapo_temperature_pos", config.sapo_temperature_pos != none.sapo_temperature_pos, of_type);
    no_effect("sapo_temperature_neg", config.sapo_temperature_neg != none.sapo_temperature_neg, of_type);
  }
  if (type != LossType::kVespo) {
    no_effect("vespo_k_pos", config.vespo_k_pos != none.vespo_k_pos, of_type);
    no_effect("vespo_lambda_pos", config.vespo_lambda_pos != none.vespo_lambda_pos, of_type);
    no_effect("vespo_k_neg", config.vespo_k_neg != none.vespo_k_neg, of_type);
    no_effect("vespo_lambda_neg", config.vespo_lambda_neg != none.vespo_lambda_neg, of_type);
  }
  if (!config.use_adaptive_entropy) {
    const std::string reason = "use_adaptive_entropy is false";
    no_effect("entropy_coef_min", config.entropy_coef_min != none.entropy_coef_min, reason);
    no_effect("entropy_coef_max", config.entropy_coef_max != none.entropy_coef_max, reason);
    no_effect("entropy_coef_delta", config.entropy_coef_delta != none.entropy_coef_delta, reason);
    no_effect("entropy_target", config.entropy_target != none.entropy_target, reason);
  }
  if (!config.sync_ref_model) {
    const std::string reason = "sync_ref_model is false";
    no_effect("ref_model_mixup_alpha", config.ref_model_mixup_alpha != none.ref_model_mixup_alpha, reason);
    no_effect("ref_model_sync_steps", config.ref_model_sync_steps != none.ref_model_sync_steps, reason);
  }
  if (config.beta == 0) {
    const std::string reason = "beta is 0: there is no reference policy";
    no_effect("use_bias_correction_kl", !config.use_bias_correction_kl, reason);
    no_effect("sync_ref_model", config.sync_ref_model, reason);
  }
  no_effect("scale_rewards",
            config.multi_objective_aggregation == Aggregation::kNormalizeThenSum &&
                config.scale_rewards != none.scale_rewards,
            "normalize_then_sum always divides by the deviations of groups and batch");
}

/// What TRL warns of.
void validate_level(const GrpoConfig& config, config::Section& section) {
  const bool is_sequence = config.importance_sampling_level == ImportanceSamplingLevel::kSequence;
  const char* key = "importance_sampling_level";
  switch (config.loss_type) {
    case LossType::kLuspo:
      if (!is_sequence)
        section.remark("loss_type", "luspo is meant with importance_sampling_level: sequence, as its paper has it");
      break;
    case LossType::kVespo:
      if (is_sequence)
        section.warn(key, "vespo weighs sequences by itself; it is meant with importance_sampling_level: token");
      break;
    case LossType::kBnpo:
    case LossType::kDrGrpo:
    case LossType::kDapo:
    case LossType::kCispo:
      if (is_sequence)
        section.warn(key,
                     concat("loss_type ", config::to_word(config.loss_type),
                            " sums over tokens, so that sequences count by their length; GSPO is loss_type: grpo"));
      break;
    case LossType::kGrpo:
    case LossType::kSapo:
      break;
  }
}

}  // namespace

std::vector<int64_t> GrpoConfig::reported_k() const {
  std::vector<int64_t> all;
  for (int64_t k = 1; k < generations_in_evaluation(); k *= 2) all.push_back(k);
  all.push_back(generations_in_evaluation());
  return all;
}

void describe_fields(config::Fields& fields, GrpoConfig& config) {
  describe_batch(fields, config);
  describe_sampling(fields, config);
  describe_rewards(fields, config);
  describe_fields(fields, config.ensemble);
  describe_loss(fields, config);
  describe_reference(fields, config);
  describe_others(fields);
}

void validate(const GrpoConfig& config, config::Section& section) {
  if (config.judged_by.rewards.empty() && !section.has_fault("rewards"))
    section.fault("rewards",
                  "needs at least one: `dsft recipes --rewards` lists what is built in, docs/rewards.md says how "
                  "a program gives them");
  rewards::validate(config.judged_by, section);
  rewards::check_reward_weights(config.judged_by.rewards, config.reward_weights, section);
  validate_batch(config, section);
  validate_agents(config, section);
  for (const std::string& string : config.stop_strings)
    if (string.empty()) section.fault("stop_strings", "has an empty text, which would end every completion");
  if (config.entropy_coef_min > config.entropy_coef_max)
    section.fault("entropy_coef_min",
                  concat(config.entropy_coef_min, " is above entropy_coef_max, which is ", config.entropy_coef_max));
  validate_effects(config, section);
  validate_level(config, section);
}

}  // namespace dsft::rl
