#include "rl/policy_evaluation.h"

#include <algorithm>
#include <cmath>

#include "base/counter_random.h"
#include "base/error.h"
#include "comm/small_collectives.h"

namespace dsft::rl {
namespace {

constexpr int64_t kNoUpdate = 0;     // the step that rewards are told
constexpr int64_t kOnlyRollout = 0;  // every evaluation draws alike

uint64_t seed_of_evaluations(uint64_t seed) {
  return CounterStream(seed, hash_name("evaluation of a policy")).bits(0);
}

GrpoConfig as_evaluated(GrpoConfig config) {
  config.num_generations = config.generations_in_evaluation();
  return config;
}

}  // namespace

/// The sampler, which keeps its engine and what that has recorded from one evaluation to the next, and what it refers
/// to.
struct PolicyEvaluation::Sampling {
  Sampling(const GrpoConfig& config, const RolloutParts& all, const PromptRows& prompts, int64_t most_at_once)
      : parts(all), sampler(config, parts, prompts, most_at_once) {}

  RolloutParts parts;
  RolloutSampler sampler;
};

PolicyEvaluation::PolicyEvaluation(const GrpoConfig& config, PromptRows prompts, PolicyEvaluationParts parts)
    : config_(as_evaluated(config)), prompts_(std::move(prompts)), parts_(std::move(parts)) {}

PolicyEvaluation::~PolicyEvaluation() = default;

// All prompts, as one round of one rank.
GenerationBatch PolicyEvaluation::one_round() const {
  const auto num_groups = static_cast<int64_t>(prompts_.rows.size());
  return {.update = {.per_micro_batch = num_groups * config_.num_generations},
          .num_agents = prompts_.num_agents,
          .num_generations = config_.num_generations};
}

RolloutSampler& PolicyEvaluation::prepare(model::CausalLm& model, comm::Communicator& communicator) {
  if (sampling_ && &sampling_->parts.model == &model && &sampling_->parts.communicator == &communicator)
    return sampling_->sampler;
  const int64_t per_prompt = prompts_.num_agents * config_.num_generations;
  sampling_ = std::make_unique<Sampling>(config_,
                                         RolloutParts{.model = model,
                                                      .assets = parts_.assets,
                                                      .communicator = communicator,
                                                      .device = parts_.device,
                                                      .seed = seed_of_evaluations(parts_.seed),
                                                      .logger = parts_.logger,
                                                      .scorer = parts_.scorer,
                                                      .rewards = parts_.rewards,
                                                      .reward_weights = parts_.reward_weights,
                                                      .pool = parts_.pool,
                                                      .max_failed_rewards = parts_.max_failed_rewards,
                                                      .isolates_rows = parts_.isolates_rows,
                                                      .completions = parts_.completions,
                                                      .heart = parts_.heart,
                                                      .on_sampled = on_sampled(),
                                                      .must_stop = parts_.must_stop},
                                         prompts_, one_round().num_completions() / communicator.size() + per_prompt);
  return sampling_->sampler;
}

// Of the whole evaluation, of which the sampler knows a part.
OnSampled PolicyEvaluation::on_sampled() const {
  if (!parts_.on_sampled) return {};
  return [this](int64_t done, int64_t) { parts_.on_sampled(num_before_ + done, num_own_); };
}

// The answers of each agent to a prompt.
std::vector<Slot> PolicyEvaluation::slots_of(int64_t prompt) const {
  std::vector<Slot> slots;
  for (int64_t row = prompt * prompts_.num_agents; row < (prompt + 1) * prompts_.num_agents; ++row)
    for (int64_t generation = 0; generation < config_.num_generations; ++generation)
      slots.push_back(
          {.row = row, .group = row, .generation = generation, .sample = row * config_.num_generations + generation});
  return slots;
}

// Nothing: asked to stop. As many looks on every rank, whatever its share.
std::optional<Answers> PolicyEvaluation::answer_prompts(RolloutSampler& sampler, comm::Communicator& communicator,
                                                        const train::StopCheck& must_stop) {
  const int64_t num_prompts = prompts_.num_rows(), rank = communicator.rank(), size = communicator.size();
  const int64_t per_prompt = prompts_.num_agents * config_.num_generations;
  // between two looks at whether to stop, as many as are decoded together
  const int64_t at_once = must_stop ? std::max<int64_t>(1, kMostSequences / per_prompt) : num_prompts;
  Answers own;
  num_before_ = 0;
  num_own_ = (num_prompts / size + (rank < num_prompts % size ? 1 : 0)) * per_prompt;
  for (int64_t first = 0; first < num_prompts; first += at_once * size) {
    if (must_stop && must_stop()) return std::nullopt;
    std::vector<Slot> slots;
    for (int64_t prompt = first + rank; prompt < std::min(first + at_once * size, num_prompts); prompt += size)
      for (const Slot& slot : slots_of(prompt)) slots.push_back(slot);
    if (!slots.empty() && !own.is_cut) own.append(sampler.answer(slots, kOnlyRollout, kNoUpdate));
    num_before_ += static_cast<int64_t>(slots.size());
  }
  if (comm::any_rank(communicator, own.is_cut)) return std::nullopt;
  return own;
}

std::map<std::string, double> PolicyEvaluation::measure(const Round& round) const {
  const JudgedRound& judged = round.judged;
  std::map<std::string, double> metrics;
  for (const auto& [name, value] : round.metrics) metrics["eval_" + name] = value;
  std::vector<PassCount> passes(prompts_.rows.size());  // of groups
  for (size_t i = 0; i < passes.size(); ++i) {
    const auto group = static_cast<int64_t>(i);
    for (int64_t generation = 0; generation < config_.num_generations; ++generation) {
      const double reward = parts_.pass.reward ? judged.reward(group, generation, *parts_.pass.reward)
                                               : judged.reward_of(group, generation);
      if (std::isnan(reward)) continue;
      ++passes[i].num_answers;
      passes[i].num_passed += reward >= parts_.pass.threshold;
    }
  }
  for (const auto& [k, share] : mean_pass_at_k(passes, config_.reported_k())) metrics[concat("eval_pass@", k)] = share;
  metrics["num_rows"] = static_cast<double>(prompts_.num_rows());
  metrics["num_completions"] = static_cast<double>(judged.num_completions());
  metrics["num_tokens"] = static_cast<double>(judged.num_tokens());
  return metrics;
}

std::optional<std::map<std::string, double>> PolicyEvaluation::run(model::CausalLm& model,
                                                                   comm::Communicator& communicator,
                                                                   const train::EvaluationMoment& moment) {
  DSFT_CHECK(moment.hooks == nullptr, "ranks that generate make passes of their own");
  fault_.reset();
  RolloutSampler& sampler = prepare(model, communicator);
  std::optional<std::map<std::string, double>> metrics;
  if (std::optional<Answers> own = answer_prompts(sampler, communicator, moment.must_stop))
    metrics = judge(*std::move(own), sampler, moment.step);
  if (parts_.weights_move) sampling_.reset();  // what it has recorded is of no more use
  return metrics;
}

// Nothing: there is a fault.
std::optional<std::map<std::string, double>> PolicyEvaluation::judge(Answers own, const RolloutSampler& sampler,
                                                                     int64_t step) {
  const Round round = sampler.judge(std::move(own), one_round(), kNoUpdate);
  if (round.fault) {
    fault_ = "evaluation: " + *round.fault;
    return std::nullopt;
  }
  sampler.log(round, step, Purpose::kEvaluation);
  return measure(round);
}

}  // namespace dsft::rl
