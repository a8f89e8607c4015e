#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "config/words.h"

namespace dsft::config {
class Fields;
class Section;
}  // namespace dsft::config

namespace dsft::rl {

/// One entry of grpo.agents: the weights of the policy under an instruction of its own.
struct AgentConfig {
  std::string name;           ///< in metrics and completions.jsonl; unique
  std::string system_prompt;  ///< the system message of its prompts
  double weight = 1.0;        ///< of its vote, relative to the others'
};

/// How one answer is made of the agents': by a vote on their answers, or decoded from a pool of their last hidden
/// states, by their weights or by learned ones.
enum class Combine { kVote, kMean, kLearned };

constexpr auto words_of(Combine) {
  return std::to_array<config::Word<Combine>>(
      {{"vote", Combine::kVote}, {"mean", Combine::kMean}, {"learned", Combine::kLearned}});
}

/// The section grpo.ensemble.
struct EnsembleConfig {
  Combine combine = Combine::kVote;
  double agreement_weight = 0.3;     ///< of the agents' agreement in a completion's reward
  double pool_learning_rate = 0.01;  ///< of learned weights
};

/// The keys of the recipe's section `grpo` that are about several agents over one set of weights (docs/agents.md).
struct EnsembleSettings {
  std::vector<AgentConfig> agents;  ///< empty: the policy answers prompts as they are; else two at least
  EnsembleConfig combination;

  bool has_agents() const { return !agents.empty(); }
  /// Answers of a prompt are asked for so many times over: 1 without agents.
  int64_t num_askers() const { return has_agents() ? static_cast<int64_t>(agents.size()) : 1; }
  /// Whether the ensemble's answer is decoded from a pool of the agents' hidden states.
  bool has_pool() const { return has_agents() && combination.combine != Combine::kVote; }
  /// The agents' weights, in their order.
  std::vector<double> weights() const;
};

/// Throws kCheckpoint where the chat template has made the same prompt (token ids) for two agents with different
/// instructions: it does not show them.
void require_different_prompts(const std::vector<AgentConfig>& agents,
                               const std::vector<std::vector<int32_t>>& prompts);

/// What agreement is called among the rewards.
constexpr const char* kAgreement = "agreement";

/// Adds the keys to those of the section that holds them.
void describe_fields(config::Fields& fields, EnsembleSettings& settings);
void describe_fields(config::Fields& fields, EnsembleConfig& config);

/// One agent alone, two of one name, and an ensemble without agents. `section` is the one that holds the keys.
void validate(const EnsembleSettings& settings, config::Section& section);

}  // namespace dsft::rl
