#include "rl/agent_pool.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "generate/pooled_decoding.h"
#include "generate/stop_strings.h"
#include "rewards/built_in.h"

namespace dsft::rl {
namespace {

constexpr int64_t kTokensAtOnce = 64;  // of a right answer, whose logits by all agents are there together

const rewards::MathAnswerConfig& judge_of(const std::vector<rewards::RewardConfig>& rewards) {
  const std::optional<size_t> place = rewards::find_math_answer_reward(rewards);
  DSFT_CHECK(place, "no reward judges the ensemble's answers");
  return *rewards::math_answer_of(rewards[*place]);
}

}  // namespace

std::vector<PooledAnswer> AgentPool::answer(const std::vector<Slot>& slots) const {
  const torch::NoGradGuard no_grad;
  const zero::WholeParameters whole(parts_.shards);
  std::vector<PooledAnswer> answers;
  std::vector<int64_t> rows;  // of PromptRows: the first agent's
  for (const Slot& slot : slots) {
    if (slot.generation != 0 || slot.group % prompts_.num_agents != 0) continue;
    answers.push_back({.prompt = slot.group / prompts_.num_agents});
    rows.push_back(slot.row);
  }
  const std::vector<double> scores = decode(rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    answers[i].score = scores[i];
    if (!parts_.pool->are_learned()) continue;
    if (parts_.heart) parts_.heart->progress();
    const std::vector<int32_t> right = right_answer(rows[i]);
    if (!right.empty()) add_loss(rows[i], right, answers[i]);
  }
  return answers;
}

// Gives what math_answer says of the pool's answers.
std::vector<double> AgentPool::decode(const std::vector<int64_t>& rows) const {
  generate::PooledOptions options{.weights = parts_.pool->values(),
                                  .max_new_tokens = config_.max_completion_length,
                                  .stop_ids = parts_.assets->stop_ids,
                                  .ends_answer = {},
                                  .on_step = {},
                                  .isolates_rows = parts_.isolates_rows};
  if (!config_.stop_strings.empty())
    options.ends_answer = generate::StopStrings(parts_.assets->tokenizer, config_.stop_strings);
  if (parts_.heart) options.on_step = [this] { parts_.heart->progress(); };
  std::vector<generate::PooledRequest> requests(rows.size());
  for (size_t i = 0; i < rows.size(); ++i)
    for (int64_t agent = 0; agent < prompts_.num_agents; ++agent)
      requests[i].prompts.push_back(prompts_.rows[static_cast<size_t>(rows[i] + agent)].ids);
  const std::vector<generate::Completion> completions =
      generate::decode_pooled(parts_.model, runner_, requests, options);
  std::vector<double> scores;
  for (size_t i = 0; i < rows.size(); ++i) scores.push_back(judge(rows[i], completions[i]));
  return scores;
}

// NaN where the row has nothing to compare with, as the scorer says of its completions.
double AgentPool::judge(int64_t row, const generate::Completion& completion) const {
  rewards::Sample sample;
  sample.text = parts_.assets->tokenizer.decode(completion.token_ids, /*skip_special_tokens=*/true);
  sample.columns = prompts_.rows[static_cast<size_t>(row)].columns;
  const auto score = rewards::make_built_in(judge_of(parts_.rewards))(sample);
  return score.value_or(std::numeric_limits<double>::quiet_NaN());
}

// Its tokens, as many as a completion may have; none where the row has no text or number.
std::vector<int32_t> AgentPool::right_answer(int64_t row) const {
  const nlohmann::ordered_json& columns = prompts_.rows[static_cast<size_t>(row)].columns;
  const auto column = columns.find(judge_of(parts_.rewards).column);
  if (column == columns.end() || !(column->is_string() || column->is_number())) return {};
  const std::string text = column->is_string() ? column->get<std::string>() : column->dump();
  std::vector<int32_t> ids = parts_.assets->tokenizer.encode(text, /*add_special_tokens=*/false);
  ids.resize(std::min(ids.size(), static_cast<size_t>(config_.max_completion_length)));
  return ids;
}

void AgentPool::add_loss(int64_t row, const std::vector<int32_t>& right, PooledAnswer& answer) const {
  std::vector<Document> documents;
  for (int64_t agent = 0; agent < prompts_.num_agents; ++agent) {
    Document document{.ids = prompts_.rows[static_cast<size_t>(row + agent)].ids, .labels = {}};
    document.labels.assign(document.ids.size(), -100);
    document.ids.insert(document.ids.end(), right.begin(), right.end());
    document.labels.insert(document.labels.end(), right.begin(), right.end());
    documents.push_back(std::move(document));
  }
  const Batch batch = make_batch(documents, /*epoch=*/0).to(parts_.device);
  const at::Tensor hidden = parts_.model.hidden_states(batch, runner_, /*training=*/nullptr);
  const auto length = static_cast<int64_t>(right.size());
  answer.num_tokens = static_cast<double>(length);
  answer.gradient.resize(static_cast<size_t>(prompts_.num_agents));
  const at::Tensor before =
      hidden.index_select(0, batch.supervised - 1).view({prompts_.num_agents, length, hidden.size(1)});
  const at::Tensor targets = batch.labels.index_select(0, batch.supervised.narrow(0, 0, length));
  for (int64_t begin = 0; begin < length; begin += kTokensAtOnce) {
    const int64_t count = std::min(kTokensAtOnce, length - begin);
    const at::Tensor states = before.narrow(1, begin, count).reshape({-1, hidden.size(1)});
    const at::Tensor logits = parts_.model.logits(states, runner_);
    const PoolLoss loss = pool_loss(logits.view({prompts_.num_agents, count, logits.size(1)}),
                                    targets.narrow(0, begin, count), parts_.pool->values());
    for (size_t a = 0; a < loss.gradient.size(); ++a) answer.gradient[a] += loss.gradient[a];
    answer.loss += loss.loss;
  }
}

}  // namespace dsft::rl
