#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/data_config.h"
#include "data/example_builder.h"
#include "data/row_prompt.h"
#include "rl/ensemble_config.h"

namespace dsft::rl {

/// A row of the data that a policy answers, or as an agent of it is asked.
struct PromptRow {
  std::vector<int32_t> ids;       ///< the prompt, tokenised as in training
  nlohmann::ordered_json prompt;  ///< as rewards see it: a text, or a list of messages
  nlohmann::ordered_json columns = nlohmann::ordered_json::object();  ///< what rewards compare with (data::columns_of)
  std::string where = {};                                             ///< "train.jsonl:12"

  bool is_conversation() const { return prompt.is_array(); }
};

struct PromptRows {
  std::vector<PromptRow> rows = {};  ///< with agents one for each of them, in their order, before those of the next row
  int64_t num_agents = 1;            ///< that each row of the data is asked of
  std::vector<int64_t> file_begins = {};  ///< the first row of the data of each file

  /// Of the data.
  int64_t num_rows() const { return static_cast<int64_t>(rows.size()) / num_agents; }
};

/// What a policy is asked by a row of any format; `where`: the row's name, for messages; `system_prompt` as
/// PromptBuilder::build_next takes it. Throws kData.
PromptRow make_prompt_row(const data::PromptBuilder& prompts, nlohmann::ordered_json row, const std::string& where,
                          const std::optional<std::string>& system_prompt = {});

/// Adds a row of the data (its name: `where`) to `all` as each agent is asked by it, one behind the other, or where
/// there are no agents as it stands. Throws kData.
void append_prompts(const data::PromptBuilder& prompts, const nlohmann::ordered_json& row, const std::string& where,
                    const std::vector<AgentConfig>& agents, PromptRows& all);

/// The rows of data.train, in file order, without those that eval_fraction holds out with this seed. Where a row has an
/// answer (messages that end with the assistant's, a completion), it is left out of the prompt and is the column
/// "completion". An agent's system prompt takes the place of the system message that a row begins with, or stands
/// before its first one; a row that is no conversation is a fault then. Throws kData, with file and line, and
/// as require_different_prompts.
PromptRows read_prompt_rows(const data::DataConfig& config, const data::TextAssets& assets, uint64_t seed,
                            const std::vector<AgentConfig>& agents = {});

}  // namespace dsft::rl
