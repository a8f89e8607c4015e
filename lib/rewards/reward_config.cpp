#include "rewards/reward_config.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/nearest_name.h"
#include "config/fields.h"
#include "config/reader.h"
#include "config/section.h"
#include "config/yaml_writer.h"

namespace dsft::rewards {
namespace {

constexpr int64_t kMostWorkers = 256;

void describe_program(config::Fields& fields, ProgramConfig& program) {
  fields.add("command", program.command, "The program and its arguments").is_required = true;
  fields.add("timeout_s", program.timeout_s, "Seconds for each request", config::above(0));
  fields.add("workers", program.workers, "Processes of each rank", config::between(1, kMostWorkers));
}

/// All keys of one entry.
void describe_entry(config::Fields& fields, RewardConfig& config) {
  fields.add("name", config.name, "Built-in function, or what the program is called in metrics").is_required = true;
  fields.add("weight", config.weight, "Weight in the sum", config::Range{});
  fields.add("label", config.label, "Name in metrics, where one function is used twice");
  if (auto* program = std::get_if<ProgramConfig>(&config.function)) {
    describe_program(fields, *program);
  } else {
    describe_fields(fields, std::get<BuiltInConfig>(config.function));
  }
}

std::string explain_unknown_name(const std::string& name) {
  if (std::string text = explain_other_reward(name); !text.empty()) return text;
  std::vector<std::string> names;
  for (const BuiltIn& row : built_in_rewards()) {
    names.push_back(row.name);
    names.insert(names.end(), row.aliases.begin(), row.aliases.end());
  }
  const std::string nearest = nearest_name(name, names);
  if (!nearest.empty()) return concat("there is no reward `", name, "`; did you mean `", nearest, "`?");
  return concat("there is no built-in reward `", name,
                "`; `dsft recipes --rewards` lists them, and a program needs a `command`");
}

std::string explain_unknown_key(const std::string& key, const config::Fields& entry, const RewardConfig& config) {
  if (!config.is_program() && (key == "timeout_s" || key == "workers"))
    return "is for reward programs, which have a `command`";
  const std::string nearest = nearest_name(key, entry.names());
  const std::string what =
      config.is_program() ? "is no key of a reward program" : concat("is no key of the reward `", config.name, "`");
  return nearest.empty() ? concat(what, "; it has ", join_words(entry.names()))
                         : concat(what, "; did you mean `", nearest, "`?");
}

/// What can only be said of the whole entry; "" where nothing is wrong.
std::string find_entry_fault(const RewardConfig& config) {
  if (config.weight && !std::isfinite(*config.weight)) return "needs a finite `weight`";
  if (config.metric_name().find_first_of("/\n\"") != std::string::npos)
    return concat("is called `", config.metric_name(), "`: a name has no slash, quote or line break");
  if (const auto* program = std::get_if<ProgramConfig>(&config.function)) {
    if (program->command.find_first_not_of(" \t\n") == std::string::npos) return "has an empty `command`";
    return "";
  }
  const std::string fault = find_fault(std::get<BuiltInConfig>(config.function));
  return fault.empty() ? "" : concat("the reward `", config.name, "` ", fault);
}

}  // namespace
}  // namespace dsft::rewards

namespace dsft::config {

template <>
struct Value<rewards::RewardConfig> {
  static std::string kind() { return "{name, weight, ...} or {command, name, weight, timeout_s, workers}"; }

  static void read(const Node& node, rewards::RewardConfig& value, Problems& problems) {
    if (node.is_scalar() && !node.text.empty()) {
      Node entry;
      entry.kind = Node::Kind::kMap;
      entry.position = node.position;
      entry.entries.push_back({"name", node.position, node});
      read_entry(entry, value, problems);
    } else if (node.is_map()) {
      read_entry(node, value, problems);
    } else {
      add_mismatch(node, kind(), problems);
    }
  }

  static void read_entry(const Node& node, rewards::RewardConfig& value, Problems& problems) {
    rewards::RewardConfig read_config;
    const Node* name = node.find("name");
    if (node.find("command")) {
      read_config.function = rewards::ProgramConfig{};
    } else if (name && name->is_scalar()) {
      const rewards::BuiltIn* row = rewards::find_built_in(name->text);
      if (!row) {
        problems.push_back({name->position, rewards::explain_unknown_name(name->text)});
        return;
      }
      read_config.name = name->text;
      read_config.function = row->defaults;
    } else {
      problems.push_back({node.position, "a reward needs the `name` of a built-in function, or a `command`"});
      return;
    }
    Fields fields;
    rewards::describe_entry(fields, read_config);
    ReadingState state;
    const auto explain = [&](const std::string& key, const Fields& entry) {
      return rewards::explain_unknown_key(key, entry, read_config);
    };
    read_fields(node, fields, "", explain, state);
    for (const Fault& fault : state.faults)
      problems.push_back({fault.position, concat("`", fault.key, "` ", fault.message)});
    if (!state.faults.empty()) return;
    if (std::string fault = rewards::find_entry_fault(read_config); !fault.empty()) {
      problems.push_back({node.position, std::move(fault)});
      return;
    }
    value = std::move(read_config);
  }

  static Node write(const rewards::RewardConfig& value) {
    rewards::RewardConfig copy = value;
    Fields fields;
    rewards::describe_entry(fields, copy);
    Node node = write_fields(fields);
    std::erase_if(node.entries, [](const Entry& entry) {
      return entry.value.is_null() || (entry.key == "label" && entry.value.text.empty());
    });
    return node;
  }
};

}  // namespace dsft::config

namespace dsft::rewards {

void describe_fields(config::Fields& fields, RewardSettings& settings) {
  fields.add(
      "rewards", settings.rewards,
      "What a completion is worth: built-in functions (`dsft recipes --rewards`) and programs (docs/rewards.md)");
  fields.add("max_failed_rewards", settings.max_failed_rewards,
             "Largest share of a step's samples without a value because a reward failed; beyond it the run saves and "
             "ends with exit code 3",
             config::between(0, 1));
}

void validate(const RewardSettings& settings, config::Section& section) {
  const auto& rewards = settings.rewards;
  for (size_t i = 0; i < rewards.size(); ++i) {
    const auto has_name = [&](const RewardConfig& other) { return other.metric_name() == rewards[i].metric_name(); };
    if (std::any_of(rewards.begin(), rewards.begin() + static_cast<std::ptrdiff_t>(i), has_name)) {
      section.fault("rewards", concat("has two rewards called `", rewards[i].metric_name(),
                                      "`, which metrics could not tell apart; give one a `label`"));
    }
  }
}

void check_reward_weights(const std::vector<RewardConfig>& rewards,
                          const std::optional<std::vector<double>>& reward_weights, config::Section& section) {
  if (!reward_weights) return;
  const auto weighted =
      std::find_if(rewards.begin(), rewards.end(), [](const auto& entry) { return entry.weight.has_value(); });
  if (weighted != rewards.end()) {
    section.conflict("reward_weights", "rewards",
                     concat("weights are written twice: `weight: ", *weighted->weight, "` of the reward `",
                            weighted->metric_name(), "`, and reward_weights; keep one"));
  } else if (reward_weights->size() != rewards.size()) {
    section.fault("reward_weights", concat("has ", reward_weights->size(), " weights for ", rewards.size(),
                                           rewards.size() == 1 ? " reward" : " rewards"));
  }
}

std::vector<double> weights_of(const std::vector<RewardConfig>& rewards,
                               const std::optional<std::vector<double>>& reward_weights) {
  std::vector<double> weights;
  for (size_t i = 0; i < rewards.size(); ++i)
    weights.push_back(reward_weights ? reward_weights->at(i) : rewards[i].weight.value_or(1.0));
  return weights;
}

const MathAnswerConfig* math_answer_of(const RewardConfig& reward) {
  const auto* built_in = std::get_if<BuiltInConfig>(&reward.function);
  return built_in == nullptr ? nullptr : std::get_if<MathAnswerConfig>(built_in);
}

std::optional<size_t> find_math_answer_reward(const std::vector<RewardConfig>& rewards) {
  for (size_t i = 0; i < rewards.size(); ++i)
    if (math_answer_of(rewards[i]) != nullptr) return i;
  return std::nullopt;
}

std::string list_built_in_rewards() {
  std::string text;
  for (const BuiltIn& row : built_in_rewards()) {
    text += row.name + "\n    " + row.help + "\n";
    BuiltInConfig parameters = row.defaults;
    config::Fields fields;
    describe_fields(fields, parameters);
    for (const config::Field& field : fields.list()) {
      std::string value = field.is_required ? "required" : config::write_json(field.write());
      text += concat("    ", field.name, ": ", value, "   ", field.help, "\n");
    }
    if (!row.aliases.empty()) text += "    also called " + join_words(row.aliases) + "\n";
  }
  return text;
}

}  // namespace dsft::rewards
