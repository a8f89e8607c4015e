#include "rl/policy_evaluation.h"

#include <torch/types.h>

#include <algorithm>

#include "base/counter_random.h"
#include "base/error.h"
#include "comm/single_process_communicator.h"
#include "rl/gathered_judgements.h"
#include "rl/judged_round.h"

namespace dsft::rl {
namespace {

constexpr int64_t kNoUpdate = 0;             // the step that rewards are told
constexpr int64_t kOnlyRollout = 0;          // every evaluation draws alike
constexpr int64_t kCompletionsAtOnce = 512;  // between two looks at whether to stop

uint64_t seed_of_evaluations(uint64_t seed) {
  return CounterStream(seed, hash_name("evaluation of a policy")).bits(0);
}

std::vector<Slot> slots_of(int64_t row, int64_t num_generations) {
  std::vector<Slot> slots;
  for (int64_t generation = 0; generation < num_generations; ++generation)
    slots.push_back({.row = row, .group = row, .generation = generation, .sample = row * num_generations + generation});
  return slots;
}

// Completions of all prompts as one round of one rank.
GenerationBatch one_round(int64_t num_prompts, int64_t num_generations) {
  return {.update = {.per_micro_batch = num_prompts * num_generations}, .num_generations = num_generations};
}

}  // namespace

/// Of one rank.
struct PolicyEvaluation::Own {
  std::vector<Judgement> judgements;
  std::vector<int64_t> num_failures;  // of each reward
};

PolicyEvaluation::PolicyEvaluation(const GrpoConfig& config, PromptRows prompts, PolicyEvaluationParts parts)
    : config_(config),
      num_generations_(config.generations_in_evaluation()),
      prompts_(std::move(prompts)),
      parts_(std::move(parts)) {}

// False: asked to stop. As many looks on every rank, whatever its share.
bool PolicyEvaluation::answer_prompts(Own& own, RolloutSampler& sampler, const comm::Communicator& communicator,
                                      const train::StopCheck& must_stop) const {
  const auto num_prompts = static_cast<int64_t>(prompts_.rows.size());
  const int64_t rank = communicator.rank(), size = communicator.size();
  const int64_t at_once = must_stop ? std::max<int64_t>(1, kCompletionsAtOnce / num_generations_) : num_prompts;
  for (int64_t first = 0; first < num_prompts; first += at_once * size) {
    if (must_stop && must_stop()) return false;
    std::vector<Slot> slots;
    for (int64_t row = first + rank; row < std::min(first + at_once * size, num_prompts); row += size)
      for (const Slot& slot : slots_of(row, num_generations_)) slots.push_back(slot);
    if (slots.empty()) continue;
    const Answers answers = sampler.answer(slots, kOnlyRollout, kNoUpdate);
    own.judgements.insert(own.judgements.end(), answers.judgements.begin(), answers.judgements.end());
    for (size_t f = 0; f < own.num_failures.size(); ++f) own.num_failures[f] += answers.num_failures[f];
  }
  return true;
}

std::map<std::string, double> PolicyEvaluation::measure(const std::vector<Judgement>& all) const {
  const auto num_prompts = static_cast<int64_t>(prompts_.rows.size());
  const auto alone = comm::make_single_process_communicator();  // every rank has all of them
  const JudgedRound judged(all, config_, parts_.reward_weights, one_round(num_prompts, num_generations_), *alone);
  std::map<std::string, double> metrics;
  for (const auto& [name, value] : judged.metrics(names_of_rewards(parts_.rewards, config_)))
    metrics["eval_" + name] = value;
  std::vector<PassCount> passes(prompts_.rows.size());
  for (const Judgement& judgement : all) {
    const std::optional<double> reward =
        parts_.pass.reward ? judgement.rewards[*parts_.pass.reward] : judged.reward_of(judgement);
    if (judgement.has_failed || !reward || *reward != *reward) continue;
    PassCount& pass = passes[static_cast<size_t>(judgement.group)];
    ++pass.num_answers;
    pass.num_passed += *reward >= parts_.pass.threshold;
  }
  for (const auto& [k, share] : mean_pass_at_k(passes, config_.reported_k())) metrics[concat("eval_pass@", k)] = share;
  metrics["num_rows"] = static_cast<double>(num_prompts);
  metrics["num_completions"] = static_cast<double>(all.size());
  metrics["num_tokens"] = static_cast<double>(judged.num_tokens());
  return metrics;
}

std::optional<std::map<std::string, double>> PolicyEvaluation::run(model::CausalLm& model,
                                                                   comm::Communicator& communicator,
                                                                   const train::StopCheck& must_stop,
                                                                   nn::BlockHooks* hooks) {
  DSFT_CHECK(hooks == nullptr, "ranks that generate make passes of their own");
  fault_.reset();
  const RolloutParts parts{.model = model,
                           .assets = parts_.assets,
                           .communicator = communicator,
                           .device = parts_.device,
                           .seed = seed_of_evaluations(parts_.seed),
                           .logger = parts_.logger,
                           .scorer = parts_.scorer,
                           .rewards = parts_.rewards,
                           .reward_weights = parts_.reward_weights,
                           .isolates_rows = parts_.isolates_rows,
                           .heart = parts_.heart};
  Own own{.judgements = {}, .num_failures = std::vector<int64_t>(parts_.rewards.size(), 0)};
  const auto num_completions = static_cast<int64_t>(prompts_.rows.size()) * num_generations_;
  RolloutSampler sampler(config_, parts, prompts_, num_completions / communicator.size() + num_generations_);
  if (!answer_prompts(own, sampler, communicator, must_stop)) return std::nullopt;

  const std::vector<Judgement> all = gather_judgements(own.judgements, parts_.rewards.size(), communicator);
  at::Tensor failures = torch::tensor(own.num_failures, at::kLong);
  communicator.all_reduce(failures);
  const auto* counts = failures.const_data_ptr<int64_t>();
  const auto num_failed =
      std::count_if(all.begin(), all.end(), [](const Judgement& judgement) { return judgement.has_failed; });
  fault_ = rewards::too_many_failures(kNoUpdate, num_failed, num_completions, parts_.max_failed_rewards, parts_.rewards,
                                      {counts, counts + failures.numel()});
  if (fault_) {
    fault_ = "evaluation: " + *fault_;
    return std::nullopt;
  }
  return measure(all);
}

}  // namespace dsft::rl
