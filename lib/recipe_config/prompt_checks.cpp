#include "recipe_config/prompt_checks.h"

#include <algorithm>

#include "base/error.h"
#include "data/prompt_fields.h"
#include "data/row_file.h"
#include "io/json.h"

namespace dsft::recipe_config {

PromptChecker::PromptChecker(const RecipeConfig& config, const data::TextAssets* assets)
    : config_(config), compared_(config.grpo->judged_by.rewards) {
  if (assets)
    prompts_.emplace(*assets, io::parse_ordered_json(config.data.chat_template_kwargs, "data.chat_template_kwargs",
                                                     ErrorKind::kUsage));
}

int64_t PromptChecker::check_row(const nlohmann::ordered_json& row) const {
  const data::RowContent question = data::read_question(row);
  const std::vector<rl::AgentConfig>& agents = config_.grpo->ensemble.agents;
  if (!agents.empty()) data::require_conversation(question);
  compared_.require_in(data::columns_of(row, data::given_answer(question)));
  if (!prompts_) return 0;
  if (agents.empty()) return static_cast<int64_t>(prompts_->build_next(row).ids.size());
  std::vector<std::vector<int32_t>> prompts;
  size_t longest = 0;
  for (const rl::AgentConfig& agent : agents) {
    prompts.push_back(prompts_->build_next(row, agent.system_prompt).ids);
    longest = std::max(longest, prompts.back().size());
  }
  rl::require_different_prompts(agents, prompts);
  return static_cast<int64_t>(longest);
}

PromptCounts PromptChecker::check(const std::string& path,
                                  const std::function<bool(int64_t number)>& is_held_out) const {
  PromptCounts counts;
  data::RowFile rows = data::RowFile::open(path);
  for (data::RawRow raw; rows.next(raw);) {
    const nlohmann::ordered_json row = rows.parse(raw);
    int64_t length = 0;
    try {
      length = check_row(row);
    } catch (const Error& error) {
      throw data::at_row(error, rows.describe(raw));
    }
    if (is_held_out(raw.number)) {
      ++counts.num_held_out;
      counts.longest_held_out = std::max(counts.longest_held_out, length);
      continue;
    }
    ++counts.num_kept;
    counts.longest = std::max(counts.longest, length);
  }
  return counts;
}

}  // namespace dsft::recipe_config
