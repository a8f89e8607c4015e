#include "rl/ensemble_config.h"

#include <algorithm>

#include "base/error.h"
#include "base/nearest_name.h"
#include "config/fields.h"
#include "config/reader.h"
#include "config/section.h"
#include "config/yaml_writer.h"

namespace dsft::rl {
namespace {

constexpr const char* kNoAgents = "there are no agents; write grpo.agents";

void describe_agent(config::Fields& fields, AgentConfig& agent) {
  fields.add("name", agent.name, "What the agent is called in metrics").is_required = true;
  fields.add("system_prompt", agent.system_prompt, "The system message of its prompts").is_required = true;
  fields.add("weight", agent.weight, "Of its vote, relative to the others'", config::above(0));
}

std::string explain_unknown_agent_key(const std::string& key, const config::Fields& agent) {
  const std::string nearest = nearest_name(key, agent.names());
  return nearest.empty() ? concat("is no key of an agent; it has ", join_words(agent.names()))
                         : concat("is no key of an agent; did you mean `", nearest, "`?");
}

/// What can only be said of the whole entry; "" where nothing is wrong.
std::string find_agent_fault(const AgentConfig& agent) {
  const auto is_blank = [](const std::string& text) { return text.find_first_not_of(" \t\r\n") == std::string::npos; };
  if (is_blank(agent.name)) return "has an agent without a `name`";
  if (agent.name.find_first_of("/\n\"") != std::string::npos)
    return concat("has an agent called `", agent.name, "`: a name has no slash, quote or line break");
  if (is_blank(agent.system_prompt)) return concat("has an agent `", agent.name, "` without a `system_prompt`");
  return "";
}

}  // namespace
}  // namespace dsft::rl

namespace dsft::config {

template <>
struct Value<rl::AgentConfig> {
  static std::string kind() { return "{name, system_prompt, weight}"; }

  static void read(const Node& node, rl::AgentConfig& value, Problems& problems) {
    if (!node.is_map()) {
      add_mismatch(node, kind(), problems);
      return;
    }
    rl::AgentConfig agent;
    Fields fields;
    rl::describe_agent(fields, agent);
    ReadingState state;
    read_fields(node, fields, "", rl::explain_unknown_agent_key, state);
    for (const Fault& fault : state.faults)
      problems.push_back({fault.position, concat("`", fault.key, "` ", fault.message)});
    if (!state.faults.empty()) return;
    if (std::string fault = rl::find_agent_fault(agent); !fault.empty()) {
      problems.push_back({node.position, std::move(fault)});
      return;
    }
    value = std::move(agent);
  }

  static Node write(const rl::AgentConfig& value) {
    rl::AgentConfig copy = value;
    Fields fields;
    rl::describe_agent(fields, copy);
    return write_fields(fields);
  }
};

}  // namespace dsft::config

namespace dsft::rl {

std::vector<double> EnsembleSettings::weights() const {
  std::vector<double> weights;
  for (const AgentConfig& agent : agents) weights.push_back(agent.weight);
  return weights;
}

void require_different_prompts(const std::vector<AgentConfig>& agents,
                               const std::vector<std::vector<int32_t>>& prompts) {
  for (size_t a = 0; a < agents.size(); ++a) {
    for (size_t b = a + 1; b < agents.size(); ++b) {
      if (agents[a].system_prompt != agents[b].system_prompt && prompts[a] == prompts[b])
        fail(ErrorKind::kCheckpoint, "grpo.agents: the chat template makes the same prompt for `", agents[a].name,
             "` and `", agents[b].name, "`: it does not show system messages; write another one in data.chat_template");
    }
  }
}

void describe_fields(config::Fields& fields, EnsembleSettings& settings) {
  fields.add("agents", settings.agents,
             "Several agents over one set of weights, each with its instruction: every prompt is asked of every agent "
             "(docs/agents.md)");
  fields.section("ensemble", settings.combination, "How the agents' answers become one, and what agreeing is worth");
}

void describe_fields(config::Fields& fields, EnsembleConfig& config) {
  fields.add(
      "combine", config.combine,
      "The ensemble's answer: vote: the one of most votes, by the agents' weights; mean, learned: decoded from a "
      "pool of the agents' last hidden states, by their weights or by learned ones");
  fields.add("agreement_weight", config.agreement_weight,
             "Weight in the reward of the share of the other agents that give the same answer", config::at_least(0));
  fields.add("pool_learning_rate", config.pool_learning_rate, "learned: the rate of Adam for the weights of the pool",
             config::above(0));
}

void validate(const EnsembleSettings& settings, config::Section& section) {
  const auto& agents = settings.agents;
  const EnsembleConfig none;
  config::Section ensemble = section.inside("ensemble");
  if (settings.combination.combine != Combine::kLearned &&
      settings.combination.pool_learning_rate != none.pool_learning_rate)
    ensemble.no_effect("pool_learning_rate", concat("combine is ", config::to_word(settings.combination.combine)));
  if (agents.empty()) {
    if (settings.combination.combine != none.combine) ensemble.no_effect("combine", kNoAgents);
    if (settings.combination.agreement_weight != none.agreement_weight)
      ensemble.no_effect("agreement_weight", kNoAgents);
    return;
  }
  if (agents.size() == 1)
    section.fault("agents", concat("has one agent, `", agents.front().name,
                                   "`, and an ensemble needs two or more; for one, write its instruction into the rows "
                                   "as their system message"));
  for (size_t i = 0; i < agents.size(); ++i) {
    const auto has_name = [&](const AgentConfig& other) { return other.name == agents[i].name; };
    if (std::any_of(agents.begin(), agents.begin() + static_cast<std::ptrdiff_t>(i), has_name))
      section.fault("agents",
                    concat("has two agents called `", agents[i].name, "`, which metrics could not tell apart"));
  }
}

}  // namespace dsft::rl
