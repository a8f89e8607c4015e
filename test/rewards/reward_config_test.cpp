#include "rewards/reward_config.h"

#include <limits>

#include "catch_amalgamated.hpp"
#include "config/fields.h"
#include "config/reader.h"
#include "config/section.h"
#include "config/yaml_reader.h"
#include "config/yaml_writer.h"
#include "rewards/compared_columns.h"
#include "support/require_error.h"

using namespace dsft;
using namespace dsft::rewards;
using Catch::Matchers::ContainsSubstring;

namespace {

/// The two keys of a section, with TRL's beside them.
struct Section {
  RewardSettings settings;
  std::optional<std::vector<double>> reward_weights;
};

void describe_fields(config::Fields& fields, Section& section) {
  rewards::describe_fields(fields, section.settings);
  fields.add("reward_weights", section.reward_weights, "Weights");
}

struct Reading {
  Section section;
  std::vector<std::string> faults;
};

Reading read(const std::string& yaml) {
  Reading reading;
  std::vector<config::Fault> faults, warnings;
  const config::Node root = config::read_yaml(yaml, "r.yaml", faults);
  config::Fields fields;
  describe_fields(fields, reading.section);
  config::ReadingState state;
  config::read_fields(
      root, fields, "", [](const std::string&, const config::Fields&) { return "unknown"; }, state);
  config::Section section("", state.written, state.faults, warnings);
  if (state.faults.empty()) {
    validate(reading.section.settings, section);
    check_reward_weights(reading.section.settings.rewards, reading.section.reward_weights, section);
  }
  for (const auto& list : {faults, state.faults}) {
    for (const config::Fault& fault : list) reading.faults.push_back(config::to_string(fault));
  }
  return reading;
}

std::string only_fault(const std::string& yaml) {
  const Reading reading = read(yaml);
  INFO(yaml);
  REQUIRE(reading.faults.size() == 1);
  return reading.faults[0];
}

}  // namespace

TEST_CASE("Entries are built-in functions with their own keys, or programs", "[rewards]") {
  const Reading reading = read(
      "rewards:\n"
      "  - {name: math_answer, weight: 2, column: solution, partial: true}\n"
      "  - {command: python a.py --x, name: style, timeout_s: 1.5, workers: 3}\n"
      "  - think_format_reward\n"
      "  - {name: length, unit: words, max: 10, label: short}\n"
      "max_failed_rewards: 0.25\n");
  REQUIRE(reading.faults.empty());
  const auto& rewards = reading.section.settings.rewards;
  REQUIRE(rewards.size() == 4);
  CHECK(std::get<BuiltInConfig>(rewards[0].function) == BuiltInConfig(MathAnswerConfig{"solution", true}));
  CHECK(rewards[0].weight == 2.0);
  CHECK(std::get<ProgramConfig>(rewards[1].function) == ProgramConfig{"python a.py --x", 1.5, 3});
  CHECK(rewards[1].weight == std::nullopt);
  CHECK(rewards[2].metric_name() == "think_format_reward");
  CHECK(rewards[3].metric_name() == "short");
  CHECK(reading.section.settings.max_failed_rewards == 0.25);
  CHECK(weights_of(rewards, std::nullopt) == std::vector<double>{2, 1, 1, 1});
  CHECK(weights_of(rewards, {{1, 2, 3, 4}}) == std::vector<double>{1, 2, 3, 4});
  const ComparedColumns compared(rewards);
  compared.require_in({{"solution", "5"}});
  compared.require_in({{"solution", nullptr}});
  test::require_error(ErrorKind::kData, {"no column \"solution\"", "the row has \"answer\""}, [&] {
    compared.require_in({{"answer", "5"}});
  });
  test::require_error(ErrorKind::kData, {"the column `solution` holds neither text"}, [&] {
    compared.require_in({{"solution", {1, 2}}});
  });
}

TEST_CASE("What is written back reads the same", "[rewards]") {
  Reading first = read(
      "rewards: [{name: format, tags: [a, b], weight: 0.5}, {name: format, regex: '^x\"\\d', label: f}, json_valid,\n"
      "  {command: 'a \"b\"', name: n}, {name: get_soft_overlong_punishment, max_completion_len: 9, soft_punish_cache: "
      "3},\n"
      "  {name: length, min: 1}, repetition_penalty, similarity, tool_call, unique_characters]\n");
  REQUIRE(first.faults.empty());
  config::Fields fields;
  describe_fields(fields, first.section);
  const Reading second = read(config::write_yaml(config::write_fields(fields)));
  REQUIRE(second.faults.empty());
  CHECK(second.section.settings.rewards == first.section.settings.rewards);
}

TEST_CASE("Each fault of an entry is told with its place and what to write", "[rewards]") {
  CHECK_THAT(only_fault("rewards: [{name: math_anser}]\n"),
             ContainsSubstring("r.yaml:1:18: ") && ContainsSubstring("did you mean `math_answer`"));
  CHECK_THAT(only_fault("rewards: [{name: soft_overlong_punishmnt_reward}]\n"),
             ContainsSubstring("did you mean `soft_overlong_punishment"));
  CHECK_THAT(only_fault("rewards: [{name: poetry}]\n"), ContainsSubstring("dsft recipes --rewards"));
  for (const char* name : {"accuracy_reward", "reasoning_accuracy_reward", "get_cosine_scaled_reward"})
    CHECK_THAT(only_fault(std::string("rewards: [") + name + "]\n"), ContainsSubstring("math_verify"));
  CHECK_THAT(only_fault("rewards: [my_module.my_reward]\n"), ContainsSubstring("command: \"python"));
  CHECK_THAT(only_fault("rewards: [{name: math_answer, colum: a}]\n"), ContainsSubstring("did you mean `column`"));
  CHECK_THAT(only_fault("rewards: [{name: math_answer, timeout_s: 3}]\n"), ContainsSubstring("reward programs"));
  CHECK_THAT(only_fault("rewards: [{name: x, command: a, column: b}]\n"), ContainsSubstring("`column` is no key"));
  CHECK_THAT(only_fault("rewards: [{command: a}]\n"), ContainsSubstring("`name` is required"));
  CHECK_THAT(only_fault("rewards: [{command: ' ', name: a}]\n"), ContainsSubstring("empty `command`"));
  CHECK_THAT(only_fault("rewards: [{command: a, name: a/b}]\n"), ContainsSubstring("slash"));
  CHECK_THAT(only_fault("rewards: [{weight: 1}]\n"), ContainsSubstring("needs the `name`"));
  CHECK_THAT(only_fault("rewards: [{command: a, name: b, timeout_s: 0}]\n"), ContainsSubstring("greater than 0"));
  CHECK_THAT(only_fault("rewards: [{command: a, name: b, workers: 0}]\n"), ContainsSubstring("between 1 and 256"));
  CHECK_THAT(only_fault("rewards: [{name: math_answer, weight: .nan}]\n"), ContainsSubstring("weight"));
  CHECK_THAT(only_fault("rewards: [{name: math_answer, partial: 3}]\n"),
             ContainsSubstring("`partial` needs true or false"));
  CHECK_THAT(only_fault("rewards: [{name: soft_overlong_punishment, max_completion_len: 5}]\n"),
             ContainsSubstring("`soft_punish_cache` is required"));
  CHECK_THAT(only_fault("rewards: [{name: length}]\n"), ContainsSubstring("`min` or `max`"));
  CHECK_THAT(only_fault("rewards: [{name: length, min: 5, max: 4}]\n"), ContainsSubstring("min 5 above max 4"));
  CHECK_THAT(only_fault("rewards: [{name: format, tags: [<a>]}]\n"), ContainsSubstring("`<a>`"));
  CHECK_THAT(only_fault("rewards: [{name: format, tags: [a], regex: b}]\n"), ContainsSubstring("both"));
  CHECK_THAT(only_fault("rewards: [[a]]\n"), ContainsSubstring("r.yaml:1:11") && ContainsSubstring("{command, name"));
  CHECK_THAT(only_fault("max_failed_rewards: 2\n"), ContainsSubstring("between 0 and 1"));
}

TEST_CASE("Two rewards of one name, and weights written twice, are faults", "[rewards]") {
  CHECK_THAT(only_fault("rewards: [json_valid, {name: format, label: json_valid}]\n"),
             ContainsSubstring("two rewards called `json_valid`") && ContainsSubstring("label"));
  CHECK_THAT(only_fault("reward_weights: [1, 2]\nrewards: [json_valid, {name: format, weight: 0.5}]\n"),
             ContainsSubstring("r.yaml:2:1") && ContainsSubstring("line 1") &&
                 ContainsSubstring("`weight: 0.5` of the reward `format`"));
  CHECK_THAT(only_fault("reward_weights: [1, 2]\nrewards: [json_valid]\n"),
             ContainsSubstring("2 weights for 1 reward"));
  CHECK(read("reward_weights: [1, 2]\nrewards: [json_valid, format]\n").faults.empty());
}

TEST_CASE("The table of built-in rewards names every function with its keys", "[rewards]") {
  const std::string table = list_built_in_rewards();
  for (const BuiltIn& row : built_in_rewards()) {
    CHECK_THAT(table, ContainsSubstring(row.name + "\n    " + row.help));
    CHECK(find_built_in(row.name) == &row);
    for (const std::string& alias : row.aliases) CHECK(find_built_in(alias) == &row);
  }
  CHECK_THAT(table, ContainsSubstring("column: \"answer\"") && ContainsSubstring("max_completion_len: required"));
}
