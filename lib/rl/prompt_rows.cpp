#include "rl/prompt_rows.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "data/dataset.h"
#include "data/row_file.h"
#include "generate/row_prompt.h"

namespace dsft::rl {
namespace {

using Json = nlohmann::ordered_json;

// What the prompt was made of; the other fields are for rewards.
constexpr std::array kFieldsOfPrompts = {"prompt", "messages", "conversations", "instruction", "input",
                                         "system", "history",  "text",          "token_ids"};

Json columns_of(Json row, const Json& answer) {
  Json columns = Json::object();
  for (auto& [name, value] : row.items()) {
    if (std::find(kFieldsOfPrompts.begin(), kFieldsOfPrompts.end(), name) == kFieldsOfPrompts.end())
      columns[name] = std::move(value);
  }
  if (!answer.is_null() && !columns.contains("completion")) columns["completion"] = answer;
  return columns;
}

}  // namespace

PromptRows read_prompt_rows(const data::DataConfig& config, const data::TextAssets& assets, uint64_t seed) {
  const generate::PromptBuilder prompts(assets, text::Json::parse(config.chat_template_kwargs));
  PromptRows all;
  for (size_t i = 0; i < config.train.size(); ++i) {
    all.file_begins.push_back(static_cast<int64_t>(all.rows.size()));
    data::RowFile file = data::RowFile::open(config.train[i].path);
    data::RawRow raw;
    while (file.next(raw)) {
      if (config.eval_fraction > 0 && data::is_held_out(seed, i, raw.number, config.eval_fraction)) continue;
      try {
        Json row = file.parse(raw);
        generate::RowPrompt prompt = prompts.build_next(row);
        Json columns = columns_of(std::move(row), prompt.answer);
        all.rows.push_back({std::move(prompt.ids), std::move(prompt.asked), std::move(columns)});
      } catch (Error& error) {
        throw error.add_context("in " + data::name_row(config.train[i].path, raw.number));
      }
    }
  }
  if (all.rows.empty()) fail(ErrorKind::kData, "data.train: no row to answer");
  return all;
}

}  // namespace dsft::rl
