#include "rl/rollout_sampler.h"

#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/stopwatch.h"
#include "comm/small_collectives.h"
#include "generate/sample_stream.h"
#include "generate/stop_strings.h"
#include "rewards/math_answer.h"
#include "rl/agent_pool.h"
#include "rl/judged_round.h"

namespace dsft::rl {
namespace {

// of the memory that is free before the first round: later ones find what the first update has taken for good
constexpr double kCacheShare = 0.5;
constexpr std::chrono::seconds kBetweenBeats{1};

int64_t longest_of(const PromptRows& prompts, const GrpoConfig& config) {
  size_t longest = 0;
  for (const PromptRow& row : prompts.rows) longest = std::max(longest, row.ids.size());
  return static_cast<int64_t>(longest) + config.max_completion_length;
}

generate::EngineOptions engine_options(const GrpoConfig& config, const RolloutParts& parts, int64_t most_at_once) {
  generate::EngineOptions options;
  options.sampling = {.temperature = config.temperature,
                      .top_k = config.top_k,
                      .top_p = config.top_p,
                      .min_p = config.min_p.value_or(0.0),
                      .repetition_penalty = config.repetition_penalty};
  options.stop_ids = parts.assets->stop_ids;
  if (!config.stop_strings.empty())
    options.ends_answer = generate::StopStrings(parts.assets->tokenizer, config.stop_strings);
  options.must_stop = parts.must_stop;
  options.seed = parts.seed;
  options.wants_log_probs = true;
  options.max_sequences = std::min(most_at_once, kMostSequences);
  options.cache_bytes = std::numeric_limits<int64_t>::max();  // as far as memory is free
  options.free_memory_share = kCacheShare;
  options.releases_memory = true;
  options.isolates_rows = parts.isolates_rows;
  options.weights_move = parts.shards != nullptr;
  return options;
}

}  // namespace

std::vector<std::string> names_of_rewards(const std::vector<rewards::RewardConfig>& rewards, const GrpoConfig& config) {
  std::vector<std::string> names;
  for (const rewards::RewardConfig& reward : rewards) names.push_back(reward.metric_name());
  if (config.ensemble.has_agents()) names.emplace_back(kAgreement);
  return names;
}

void Answers::append(Answers more) {
  const auto take = [](auto& to, auto& from) {
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  };
  take(slots, more.slots);
  take(completions, more.completions);
  take(judgements, more.judgements);
  take(pooled, more.pooled);
  num_failures.resize(more.num_failures.size());
  for (size_t f = 0; f < num_failures.size(); ++f) num_failures[f] += more.num_failures[f];
  is_cut |= more.is_cut;
  sampling_seconds += more.sampling_seconds;
  waiting_seconds += more.waiting_seconds;
}

RolloutSampler::RolloutSampler(const GrpoConfig& config, const RolloutParts& parts, const PromptRows& prompts,
                               int64_t most_at_once)
    : config_(config), parts_(parts), prompts_(prompts), most_at_once_(most_at_once) {}

rewards::Sample RolloutSampler::sample_of(const Slot& slot, const generate::Completion& completion) const {
  const PromptRow& row = prompts_.rows[static_cast<size_t>(slot.row)];
  const std::vector<int32_t>& ids = completion.token_ids;
  const text::Tokenizer& tokenizer = parts_.assets->tokenizer;
  rewards::Sample sample{.prompt = row.prompt,
                         .completion = {},
                         .text = tokenizer.decode(ids, /*skip_special_tokens=*/true),
                         .marked_text = tokenizer.decode(ids, /*skip_special_tokens=*/false),
                         .completion_ids = ids,
                         .columns = row.columns};
  if (row.is_conversation())
    sample.completion = {{{"role", "assistant"}, {"content", sample.text}}};
  else
    sample.completion = sample.text;
  return sample;
}

std::vector<generate::Completion> RolloutSampler::generate(const std::vector<Slot>& slots, int64_t number,
                                                           int64_t step) {
  // answers to one prompt stand together: they share what the prompt leaves in the cache
  std::vector<size_t> order(slots.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return slots[a].group < slots[b].group; });
  const int64_t num_agents = config_.ensemble.num_askers();
  std::vector<generate::Request> requests;
  for (const size_t i : order) {
    const Slot& slot = slots[i];
    requests.push_back({.prompt_ids = prompts_.rows[static_cast<size_t>(slot.row)].ids,
                        .max_new_tokens = config_.max_completion_length,
                        .stream = generate::sample_stream(
                            {.rollout = static_cast<uint64_t>(number),
                             .prompt = static_cast<uint64_t>(slot.group / num_agents),
                             .generation = static_cast<uint64_t>(slot.group % num_agents * config_.num_generations +
                                                                 slot.generation)})});
  }
  const torch::NoGradGuard no_grad;
  const zero::WholeParameters whole(parts_.shards);
  if (!engine_)
    engine_.emplace(parts_.model, runner_, engine_options(config_, parts_, most_at_once_),
                    longest_of(prompts_, config_));
  int64_t num_done = 0;
  std::vector<generate::Completion> in_order =
      engine_->generate(requests, [&](size_t request, const generate::Completion& completion) {
        if (parts_.heart) parts_.heart->progress();
        if (parts_.on_sampled) parts_.on_sampled(++num_done, static_cast<int64_t>(slots.size()));
        const size_t i = order[request];
        parts_.scorer->submit(step, static_cast<int64_t>(i), {sample_of(slots[i], completion)});
      });
  std::vector<generate::Completion> completions(slots.size());
  for (size_t r = 0; r < order.size(); ++r) completions[order[r]] = std::move(in_order[r]);
  return completions;
}

// What the agents say to each other's answers, on all ranks; nothing where there are none. Collective.
std::optional<AgentRound> RolloutSampler::hear_agents(const std::vector<Slot>& slots,
                                                      const std::vector<generate::Completion>& answers,
                                                      const GenerationBatch& batch) const {
  if (!config_.ensemble.has_agents()) return std::nullopt;
  Ballot own;
  for (const generate::Completion& answer : answers)
    own.push_back(
        rewards::find_math_answer(parts_.assets->tokenizer.decode(answer.token_ids, /*skip_special_tokens=*/true)));
  const std::optional<size_t> math_answer = rewards::find_math_answer_reward(parts_.rewards);
  const double tolerance =
      math_answer ? math_answer_of(parts_.rewards[*math_answer])->tolerance : rewards::MathAnswerConfig().tolerance;
  return AgentRound(slots, own, config_.ensemble, tolerance, batch, parts_.communicator);
}

Answers RolloutSampler::answer(const std::vector<Slot>& slots, int64_t number, int64_t step) {
  const Stopwatch stopwatch;
  Answers answers{.slots = slots};
  answers.completions = generate(slots, number, step);
  answers.sampling_seconds = stopwatch.seconds();
  answers.is_cut = parts_.must_stop && parts_.must_stop();
  if (parts_.shards) answers.is_cut = comm::any_rank(parts_.communicator, answers.is_cut);  // the pool gathers weights
  if (answers.is_cut) return answers;
  if (parts_.pool) answers.pooled = AgentPool(config_, parts_, prompts_).answer(slots);  // while rewards are computed
  const double before = stopwatch.seconds();
  while (!parts_.scorer->wait_for(kBetweenBeats)) {
    if (parts_.heart) parts_.heart->progress();
    answers.is_cut = parts_.must_stop && parts_.must_stop();
    if (answers.is_cut) return answers;
  }
  const rewards::Scores scores = parts_.scorer->collect();
  answers.waiting_seconds = stopwatch.seconds() - before;
  for (size_t i = 0; i < slots.size(); ++i) {
    const generate::Completion& completion = answers.completions[i];
    answers.judgements.push_back({.group = slots[i].group,
                                  .generation = slots[i].generation,
                                  .num_tokens = static_cast<int64_t>(completion.token_ids.size()),
                                  .is_truncated = completion.finish_reason == generate::FinishReason::kLength,
                                  .rewards = scores.rewards[i]});
  }
  for (const int64_t index : scores.failed_indices()) answers.judgements[static_cast<size_t>(index)].has_failed = true;
  answers.num_failures = scores.count_failures(parts_.rewards.size());
  return answers;
}

Round RolloutSampler::judge(Answers own, const GenerationBatch& batch, int64_t step) const {
  const std::optional<AgentRound> agents = hear_agents(own.slots, own.completions, batch);
  std::vector<double> weights = parts_.reward_weights;
  if (agents) {
    for (size_t i = 0; i < own.slots.size(); ++i)
      own.judgements[i].rewards.emplace_back(agents->agreement_of(own.slots[i]));
    weights.push_back(config_.ensemble.combination.agreement_weight);
  }
  Round round{.judged = JudgedRound(own.judgements, config_, weights, batch, parts_.communicator)};
  const JudgedRound& judged = round.judged;
  round.metrics = judged.metrics(names_of_rewards(parts_.rewards, config_));
  if (agents) round.metrics.merge(agents->metrics(judged, rewards::find_math_answer_reward(parts_.rewards)));
  if (parts_.pool) {
    round.pooled.emplace(own.pooled, batch.num_agents, parts_.communicator);
    round.metrics.merge(round.pooled->metrics(parts_.pool->are_learned()));
    round.metrics.merge(parts_.pool->metrics());
  }
  own.num_failures.resize(parts_.rewards.size());
  at::Tensor failures = torch::tensor(own.num_failures, at::kLong);
  parts_.communicator.all_reduce(failures);
  const auto* counts = failures.const_data_ptr<int64_t>();
  round.fault =
      rewards::too_many_failures(step, judged.num_failed(), judged.num_completions(), parts_.max_failed_rewards,
                                 parts_.rewards, {counts, counts + failures.numel()});
  for (size_t i = 0; i < own.slots.size(); ++i) {
    const Slot& slot = own.slots[i];
    const Judgement& judgement = own.judgements[i];
    round.rollouts.push_back({.slot = slot,
                              .completion = std::move(own.completions[i]),
                              .rewards = judgement.rewards,
                              .reward = judged.reward_of(slot.group, slot.generation),
                              .advantage = judged.advantage_of(slot.group, slot.generation),
                              .has_failed = judgement.has_failed,
                              .is_left_out = config_.mask_truncated_completions && judgement.is_truncated,
                              .answer = agents ? agents->answer_of(slot) : std::nullopt});
  }
  return round;
}

std::optional<Round> RolloutSampler::sample(const std::vector<Slot>& slots, const GenerationBatch& batch,
                                            int64_t number, int64_t step) {
  Answers answers = answer(slots, number, step);
  if (comm::any_rank(parts_.communicator, answers.is_cut)) return std::nullopt;
  // the slowest rank's time is the round's
  at::Tensor seconds = torch::tensor({answers.sampling_seconds, answers.waiting_seconds}, at::kDouble);
  Round round = judge(std::move(answers), batch, step);
  parts_.communicator.all_reduce(seconds, comm::ReduceOp::kMax);
  round.metrics["rollout/sampling_seconds"] = seconds[0].item<double>();
  round.metrics["rollout/waiting_for_rewards_seconds"] = seconds[1].item<double>();
  round.metrics["rollout/tokens_per_second"] =
      static_cast<double>(round.judged.num_tokens()) / seconds[0].item<double>();
  return round;
}

void RolloutSampler::log(const Round& round, int64_t step, Purpose purpose) const {
  if (!parts_.completions) return;
  std::vector<CompletionRecord> records;
  for (const Rollout& rollout : round.rollouts)
    records.push_back(
        {rollout.slot.group, rollout.slot.generation,
         record(rollout, step, purpose).dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)});
  parts_.completions->write(records);
}

nlohmann::ordered_json RolloutSampler::record(const Rollout& rollout, int64_t step, Purpose purpose) const {
  const auto number = [](double value) {  // JSON has no NaN
    return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
  };
  nlohmann::ordered_json object = {{"step", step}};
  if (purpose == Purpose::kEvaluation) object["evaluation"] = true;
  object["prompt"] = prompts_.rows[static_cast<size_t>(rollout.slot.row)].prompt;
  object["completion"] = parts_.assets->tokenizer.decode(rollout.completion.token_ids, /*skip_special_tokens=*/false);
  if (config_.ensemble.has_agents()) {
    object["agent"] =
        config_.ensemble.agents[static_cast<size_t>(rollout.slot.group % config_.ensemble.num_askers())].name;
    object["answer"] = rollout.answer ? nlohmann::ordered_json(*rollout.answer) : nlohmann::ordered_json();
  }
  const std::vector<std::string> names = names_of_rewards(parts_.rewards, config_);
  for (size_t f = 0; f < names.size(); ++f)
    object["rewards"][names[f]] = rollout.rewards[f] ? number(*rollout.rewards[f]) : nullptr;
  object["reward"] = number(rollout.reward);
  object["advantage"] = number(rollout.advantage);
  if (rollout.has_failed) object["failed"] = true;
  if (rollout.completion.finish_reason == generate::FinishReason::kLength) object["truncated"] = true;
  return object;
}

}  // namespace dsft::rl
