#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/words.h"
#include "rewards/reward_config.h"
#include "rl/ensemble_config.h"

namespace dsft::config {
class Fields;
class Section;
}  // namespace dsft::config

namespace dsft::rl {

/// How the terms of tokens become one loss (docs/grpo.md).
enum class LossType { kGrpo, kBnpo, kDrGrpo, kDapo, kCispo, kSapo, kLuspo, kVespo };

constexpr auto words_of(LossType) {
  return std::to_array<config::Word<LossType>>({{"grpo", LossType::kGrpo},
                                                {"bnpo", LossType::kBnpo},
                                                {"dr_grpo", LossType::kDrGrpo},
                                                {"dapo", LossType::kDapo},
                                                {"cispo", LossType::kCispo},
                                                {"sapo", LossType::kSapo},
                                                {"luspo", LossType::kLuspo},
                                                {"vespo", LossType::kVespo}});
}

/// Whether a token is weighed by its own ratio or by the geometric mean of its sequence's (GSPO).
enum class ImportanceSamplingLevel { kToken, kSequence };

constexpr auto words_of(ImportanceSamplingLevel) {
  return std::to_array<config::Word<ImportanceSamplingLevel>>(
      {{"token", ImportanceSamplingLevel::kToken}, {"sequence", ImportanceSamplingLevel::kSequence}});
}

/// What advantages are divided by: the deviation of their group, that of the whole batch, or nothing.
enum class ScaleRewards { kGroup, kBatch, kNone };

constexpr auto words_of(ScaleRewards) {
  return std::to_array<config::Word<ScaleRewards>>({{"group", ScaleRewards::kGroup},
                                                    {"batch", ScaleRewards::kBatch},
                                                    {"none", ScaleRewards::kNone},
                                                    {"true", ScaleRewards::kGroup},
                                                    {"false", ScaleRewards::kNone}});
}

/// Whether rewards are summed before they are normalised in their group, or after (GDPO).
enum class Aggregation { kSumThenNormalize, kNormalizeThenSum };

constexpr auto words_of(Aggregation) {
  return std::to_array<config::Word<Aggregation>>(
      {{"sum_then_normalize", Aggregation::kSumThenNormalize}, {"normalize_then_sum", Aggregation::kNormalizeThenSum}});
}

/// Completions of one prompt, those of all agents together: what random numbers are named by (generate::SampleName).
inline constexpr int64_t kMostCompletionsOfPrompt = int64_t{1} << 14;

/// Sequences that a sampler decodes together, at most.
inline constexpr int64_t kMostSequences = 512;

/// The recipe's section `grpo` (the keys of trl.GRPOConfig that are about the algorithm, with its defaults).
struct GrpoConfig {
  int64_t num_generations = 8;                        ///< G: completions of a prompt
  std::optional<int64_t> num_generations_eval = {};   ///< none: as in training
  int64_t max_completion_length = 512;                ///< tokens
  std::optional<int64_t> generation_batch_size = {};  ///< completions of one round of sampling; or:
  std::optional<int64_t> steps_per_generation =
      {};                      ///< its micro-batches on a rank; neither: gradient_accumulation_steps
  int64_t num_iterations = 1;  ///< uses of each completion

  double temperature = 1.0;
  double top_p = 1.0;
  int64_t top_k = 0;  ///< 0: off
  std::optional<double> min_p = {};
  double repetition_penalty = 1.0;
  std::vector<std::string> stop_strings = {};  ///< one of them in its text ends a completion

  rewards::RewardSettings judged_by = {};
  std::optional<std::vector<double>> reward_weights = {};  ///< none: all 1
  EnsembleSettings ensemble = {};
  Aggregation multi_objective_aggregation = Aggregation::kSumThenNormalize;
  ScaleRewards scale_rewards = ScaleRewards::kGroup;

  LossType loss_type = LossType::kDapo;
  ImportanceSamplingLevel importance_sampling_level = ImportanceSamplingLevel::kToken;
  double epsilon = 0.2;
  std::optional<double> epsilon_high = {};  ///< none: epsilon; with cispo the largest ratio itself
  std::optional<double> delta = {};         ///< largest ratio of the term that is not clipped; none: any
  double sapo_temperature_pos = 1.0;
  double sapo_temperature_neg = 1.05;
  double vespo_k_pos = 2.0;
  double vespo_lambda_pos = 3.0;
  double vespo_k_neg = 3.0;
  double vespo_lambda_neg = 2.0;
  bool mask_truncated_completions = false;
  std::optional<double> off_policy_mask_threshold = {};
  double top_entropy_quantile = 1.0;

  double entropy_coef = 0.0;
  bool use_adaptive_entropy = false;
  double entropy_coef_min = 0.0;
  double entropy_coef_max = 1.0;
  double entropy_coef_delta = 0.005;
  double entropy_target = 0.2;

  double beta = 0.0;  ///< 0: no reference policy
  bool use_bias_correction_kl = true;
  bool sync_ref_model = false;
  double ref_model_mixup_alpha = 0.6;
  int64_t ref_model_sync_steps = 512;
  bool disable_dropout = false;

  /// epsilon_high where it is written, else epsilon.
  double upper_epsilon() const { return epsilon_high.value_or(epsilon); }
  /// Completions of a prompt in evaluation.
  int64_t generations_in_evaluation() const { return num_generations_eval.value_or(num_generations); }
  /// The k of the reported eval_pass@k: 1, 2, 4, ... and generations_in_evaluation().
  std::vector<int64_t> reported_k() const;
  /// Whether the loss has an entropy term, also while an adaptive coefficient is 0.
  bool has_entropy_bonus() const { return entropy_coef != 0 || use_adaptive_entropy; }
};

void describe_fields(config::Fields& fields, GrpoConfig& config);
/// Contradictions inside the section, settings that TRL warns of, and keys without effect beside the others.
void validate(const GrpoConfig& config, config::Section& section);

}  // namespace dsft::rl
