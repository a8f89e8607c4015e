#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "rewards/built_in_config.h"

namespace dsft::config {
class Fields;
class Section;
}  // namespace dsft::config

namespace dsft::rewards {

/// A program that gives rewards by the protocol of docs/rewards.md.
struct ProgramConfig {
  std::string command;    ///< run as a shell would
  double timeout_s = 30;  ///< for each request
  int64_t workers = 2;    ///< processes of each rank
  bool operator==(const ProgramConfig&) const = default;
};

/// One entry of grpo.rewards.
struct RewardConfig {
  std::string name;              ///< of a built-in function (or an alias), or what a program is called
  std::optional<double> weight;  ///< none: 1, or TRL's reward_weights
  std::string label;             ///< in metrics; empty: the name
  std::variant<BuiltInConfig, ProgramConfig> function;

  bool is_program() const { return std::holds_alternative<ProgramConfig>(function); }
  /// "rewards/<metric_name>/mean"; unique among the entries.
  const std::string& metric_name() const { return label.empty() ? name : label; }
  bool operator==(const RewardConfig&) const = default;
};

/// The keys of the recipe's section `grpo` that are about rewards.
struct RewardSettings {
  std::vector<RewardConfig> rewards;
  /// The run saves and ends with exit code 3 where in one step a larger share of the samples than this got no value
  /// because a reward failed.
  double max_failed_rewards = 0.1;
};

/// Adds the keys to those of the section that holds them.
void describe_fields(config::Fields& fields, RewardSettings& settings);

/// Two rewards of one metric name. `section` is the one that holds the keys.
void validate(const RewardSettings& settings, config::Section& section);

/// TRL's `reward_weights` beside the entries: a `weight:` in any entry with it, or another number of them, is a fault
/// at the key reward_weights of `section`.
void check_reward_weights(const std::vector<RewardConfig>& rewards,
                          const std::optional<std::vector<double>>& reward_weights, config::Section& section);

/// The weight of each entry: its own, or that of reward_weights, or 1.
std::vector<double> weights_of(const std::vector<RewardConfig>& rewards,
                               const std::optional<std::vector<double>>& reward_weights);

/// The parameters of an entry that is math_answer; null: it is another function.
const MathAnswerConfig* math_answer_of(const RewardConfig& reward);
/// The place of the first such entry; nothing where there is none.
std::optional<size_t> find_math_answer_reward(const std::vector<RewardConfig>& rewards);

/// The table of built-in rewards as `dsft recipes --rewards` prints it: name, what it does, its keys with defaults.
std::string list_built_in_rewards();

}  // namespace dsft::rewards
