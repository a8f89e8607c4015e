// Hidden: scripts/parity/grpo_curves.py calls it to judge the completions of TRL's runs in one process.
#include <cstdlib>
#include <fstream>
#include <string>

#include "catch_amalgamated.hpp"
#include "config/fields.h"
#include "config/reader.h"
#include "config/yaml_reader.h"
#include "rewards/built_in.h"
#include "rewards/reward_config.h"

TEST_CASE("Completions of the parity script are judged line by line", "[.][reward_requests]") {
  using namespace dsft;
  const char* requests = std::getenv("DSFT_REWARD_REQUESTS");
  const char* answers = std::getenv("DSFT_REWARD_ANSWERS");
  REQUIRE(requests);
  REQUIRE(answers);
  std::ifstream in(requests);
  std::ofstream out(answers);
  std::string line;
  REQUIRE(std::getline(in, line));  // the entries as in a recipe
  rewards::RewardSettings settings;
  config::Fields fields;
  rewards::describe_fields(fields, settings);
  config::ReadingState state;
  config::read_fields(
      config::read_yaml(line, requests, state.faults), fields, "",
      [](const std::string& path, const config::Fields&) { return path + " is unknown"; }, state);
  REQUIRE(state.faults.empty());
  std::vector<rewards::RewardFunction> functions;
  for (const rewards::RewardConfig& entry : settings.rewards)
    functions.push_back(rewards::make_built_in(std::get<rewards::BuiltInConfig>(entry.function)));
  while (std::getline(in, line)) {
    const auto request = nlohmann::ordered_json::parse(line);
    rewards::Sample sample;
    sample.text = request.at("text");
    sample.completion_ids = request.at("completion_ids").get<std::vector<int32_t>>();
    sample.columns = request.at("columns");
    auto answer = nlohmann::ordered_json::array();
    for (const rewards::RewardFunction& judge : functions) answer.push_back(judge(sample).value());
    out << answer.dump() << "\n";
  }
}
