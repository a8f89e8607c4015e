#include "rl/prompt_rows.h"

#include "base/error.h"
#include "data/dataset.h"
#include "data/prompt_fields.h"
#include "data/row_file.h"

namespace dsft::rl {
namespace {

using Json = nlohmann::ordered_json;

// Agents with different instructions that ask the same would be one.
void require_different(const std::vector<AgentConfig>& agents, const std::vector<PromptRow>& rows) {
  for (size_t a = 0; a < agents.size(); ++a) {
    for (size_t b = a + 1; b < agents.size(); ++b) {
      if (agents[a].system_prompt != agents[b].system_prompt && rows[a].ids == rows[b].ids)
        fail(ErrorKind::kCheckpoint, "grpo.agents: the chat template makes the same prompt for `", agents[a].name,
             "` and `", agents[b].name, "`: it does not show system messages; write another one in data.chat_template");
    }
  }
}

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

PromptRows read_prompt_rows(const data::DataConfig& config, const data::TextAssets& assets, uint64_t seed,
                            const std::vector<AgentConfig>& agents) {
  const data::PromptBuilder prompts(assets, text::Json::parse(config.chat_template_kwargs));
  std::vector<std::optional<std::string>> system_prompts;
  for (const AgentConfig& agent : agents) system_prompts.emplace_back(agent.system_prompt);
  if (agents.empty()) system_prompts.emplace_back();
  PromptRows all;
  all.num_agents = static_cast<int64_t>(system_prompts.size());
  for (size_t i = 0; i < config.train.size(); ++i) {
    all.file_begins.push_back(all.num_rows());
    data::RowFile file = data::RowFile::open(config.train[i].path);
    data::RawRow raw;
    while (file.next(raw)) {
      if (config.eval_fraction > 0 && data::is_held_out(seed, i, raw.number, config.eval_fraction)) continue;
      const Json row = file.parse(raw);
      const std::string where = data::name_row(config.train[i].path, raw.number);
      for (const auto& system_prompt : system_prompts)
        all.rows.push_back(make_prompt_row(prompts, row, where, system_prompt));
    }
  }
  if (all.rows.empty()) fail(ErrorKind::kData, "data.train: no row to answer");
  require_different(agents, all.rows);
  return all;
}

}  // namespace dsft::rl
