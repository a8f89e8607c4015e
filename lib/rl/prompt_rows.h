#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "data/data_config.h"
#include "data/example_builder.h"

namespace dsft::rl {

/// A row of the data that a policy answers.
struct PromptRow {
  std::vector<int32_t> ids;       ///< the prompt, tokenised as in training
  nlohmann::ordered_json prompt;  ///< as rewards see it: a text, or a list of messages
  nlohmann::ordered_json columns = nlohmann::ordered_json::object();  ///< the other fields of the row

  bool is_conversation() const { return prompt.is_array(); }
};

struct PromptRows {
  std::vector<PromptRow> rows;
  std::vector<int64_t> file_begins;  ///< the first row of each file
};

/// The rows of data.train, in file order, without those that eval_fraction holds out with this seed. Where a row has an
/// answer (messages that end with the assistant's, a completion), it is left out of the prompt and is the column
/// "completion". Throws kData, with file and line.
PromptRows read_prompt_rows(const data::DataConfig& config, const data::TextAssets& assets, uint64_t seed);

}  // namespace dsft::rl
