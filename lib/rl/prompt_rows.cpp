#include "rl/prompt_rows.h"

#include "base/error.h"
#include "data/dataset.h"
#include "data/prompt_fields.h"
#include "data/row_file.h"

namespace dsft::rl {
namespace {

using Json = nlohmann::ordered_json;

}  // namespace

PromptRow make_prompt_row(const data::PromptBuilder& prompts, Json row, const std::string& where,
                          const std::optional<std::string>& system_prompt) {
  try {
    data::RowPrompt prompt = prompts.build_next(row, system_prompt);
    Json columns = data::columns_of(std::move(row), prompt.answer);
    return {std::move(prompt.ids), std::move(prompt.asked), std::move(columns), where};
  } catch (const Error& error) {
    throw data::at_row(error, where);
  }
}

void append_prompts(const data::PromptBuilder& prompts, const Json& row, const std::string& where,
                    const std::vector<AgentConfig>& agents, PromptRows& all) {
  if (agents.empty()) all.rows.push_back(make_prompt_row(prompts, row, where));
  std::vector<std::vector<int32_t>> of_agents;
  for (const AgentConfig& agent : agents) {
    all.rows.push_back(make_prompt_row(prompts, row, where, agent.system_prompt));
    of_agents.push_back(all.rows.back().ids);
  }
  try {
    require_different_prompts(agents, of_agents);
  } catch (const Error& error) {
    throw data::at_row(error, where);
  }
}

PromptRows read_prompt_rows(const data::DataConfig& config, const data::TextAssets& assets, uint64_t seed,
                            const std::vector<AgentConfig>& agents) {
  const data::PromptBuilder prompts(assets, text::Json::parse(config.chat_template_kwargs));
  PromptRows all{.num_agents = std::max<int64_t>(1, static_cast<int64_t>(agents.size()))};
  for (size_t i = 0; i < config.train.size(); ++i) {
    all.file_begins.push_back(all.num_rows());
    data::RowFile file = data::RowFile::open(config.train[i].path);
    data::RawRow raw;
    while (file.next(raw)) {
      if (config.eval_fraction > 0 && data::is_held_out(seed, i, raw.number, config.eval_fraction)) continue;
      append_prompts(prompts, file.parse(raw), data::name_row(config.train[i].path, raw.number), agents, all);
    }
  }
  if (all.rows.empty()) fail(ErrorKind::kData, "data.train: no row to answer");
  return all;
}

}  // namespace dsft::rl
