#include "rl/rollout_source.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/stopwatch.h"
#include "comm/small_collectives.h"
#include "data/example.h"
#include "rl/entropy_mask.h"
#include "train/metric_means.h"

namespace dsft::rl {
namespace {

Document document_of(const std::vector<int32_t>& prompt, const Rollout& rollout) {
  Document document{
      .ids = prompt, .labels = std::vector<int32_t>(prompt.size(), data::kIgnored), .sample = rollout.slot.sample};
  for (const int32_t id : rollout.completion.token_ids) {
    document.ids.push_back(id);
    document.labels.push_back(id);
  }
  return document;
}

}  // namespace

RolloutSource::RolloutSource(const GrpoConfig& config, RolloutPlan plan, std::shared_ptr<const PromptRows> prompts,
                             RolloutParts parts)
    : config_(config), plan_(std::move(plan)), prompts_(std::move(prompts)), parts_(std::move(parts)) {}

RolloutSource::~RolloutSource() = default;

// Over all ranks.
int64_t RolloutSource::completions_of_step() const {
  return plan_.batch().update.per_micro_batch * plan_.batch().update.num_ranks;
}

std::optional<std::vector<Batch>> RolloutSource::next_step() {
  if (position_.item >= plan_.steps_per_epoch() * completions_of_step()) position_ = {position_.epoch + 1, 0};
  const int64_t first = position_.item / completions_of_step();
  const int64_t last = std::min(first + plan_.batch().update.accumulation, plan_.steps_per_epoch());
  std::vector<Batch> batches;
  pooled_.clear();
  train::MetricMeans of_rounds;
  for (int64_t step = first; step < last; ++step) {
    if (!begin_round(position_.epoch, step / plan_.steps_per_round())) return std::nullopt;
    if (step == first || step % plan_.steps_per_round() == 0) of_rounds.add(round_metrics_);
    batches.push_back(batches_[static_cast<size_t>(step % plan_.batch().steps_per_generation)]);
  }
  if (config_.top_entropy_quantile < 1) {
    std::vector<at::Tensor> entropies;
    for (const Batch& batch : batches) entropies.push_back(scores_of(batch).entropies);
    mask_low_entropy(batches, entropies, config_.top_entropy_quantile, parts_.communicator);
  }
  metrics_ = of_rounds.values();
  learn_pool();
  position_.item = last * completions_of_step();
  ++num_updates_;
  return batches;
}

// Once all rounds of the update are there: of one with a fault nothing is learned, for a run that continues takes its
// rounds again. What is reported is the weights behind the step.
void RolloutSource::learn_pool() {
  if (!parts_.pool || !parts_.pool->are_learned()) return;
  for (const PooledRound& round : pooled_)
    if (const std::vector<double> gradient = round.gradient(); !gradient.empty()) parts_.pool->update(gradient);
  for (const auto& [name, weight] : parts_.pool->metrics()) metrics_[name] = weight;
}

// Samples a round unless it is the one that is there; false: it has a fault, or was cut.
bool RolloutSource::begin_round(int64_t epoch, int64_t round) {
  if (round_ == place_of(epoch, round)) return true;
  if (parts_.heart) parts_.heart->enter(watchdog::PhaseKind::kLong, "sampling");
  const std::vector<Slot> slots = plan_.slots(epoch, round, parts_.communicator.rank());
  if (!sampler_)
    sampler_ = std::make_unique<RolloutSampler>(config_, parts_, *prompts_, static_cast<int64_t>(slots.size()));
  std::optional<Round> sampled =
      sampler_->sample(slots, plan_.batch(), epoch * plan_.rounds_per_epoch() + round, num_updates_ + 1);
  is_cut_ = !sampled;
  if (is_cut_) return false;
  sampler_->log(*sampled, num_updates_ + 1, Purpose::kTraining);
  if (sampled->fault) {
    fault_ = std::move(sampled->fault);
    return false;
  }
  warn_without_rewards(*sampled);
  if (sampled->pooled) pooled_.push_back(*sampled->pooled);
  batches_ = to_batches(sampled->rollouts, epoch);
  round_metrics_ = std::move(sampled->metrics);
  score(batches_);
  round_ = place_of(epoch, round);
  return true;
}

// Once.
void RolloutSource::warn_without_rewards(const Round& round) {
  if (has_warned_ || !std::isnan(round.metrics.at("reward"))) return;
  has_warned_ = true;
  parts_.logger.warn(
      "step ", num_updates_ + 1,
      ": no reward applies to any completion of its round (each is null, or has failed), so that nothing is "
      "learned from it: do the rows have what the rewards compare with?");
}

std::vector<Batch> RolloutSource::to_batches(const std::vector<Rollout>& rollouts, int64_t epoch) const {
  std::vector<Batch> batches;
  const auto size = static_cast<size_t>(plan_.batch().update.per_micro_batch);
  for (size_t begin = 0; begin < rollouts.size(); begin += size) {
    std::vector<Document> documents;
    std::vector<PolicyRow> rows;
    std::vector<float> sampling_log_probs;
    for (size_t i = begin; i < begin + size; ++i) {
      const Rollout& rollout = rollouts[i];
      documents.push_back(document_of(prompts_->rows[static_cast<size_t>(rollout.slot.row)].ids, rollout));
      rows.push_back({static_cast<float>(rollout.advantage), rollout.is_left_out, rollout.has_failed});
      sampling_log_probs.insert(sampling_log_probs.end(), rollout.completion.log_probs.begin(),
                                rollout.completion.log_probs.end());
    }
    Batch batch = make_batch(documents, epoch);
    set_policy_rows(batch, rows);
    batch.policy->sampling_log_probs = torch::tensor(sampling_log_probs);
    keep_prompt_lengths(batch);
    batches.push_back(std::move(batch));
  }
  return batches;
}

void RolloutSource::keep_prompt_lengths(Batch& batch) const {
  if (!parts_.isolates_rows) return;
  const at::Tensor lengths = batch.starts.diff().to(at::kLong) - batch.policy->row_starts.diff();
  batch.policy->prompt_lengths.assign(lengths.const_data_ptr<int64_t>(),
                                      lengths.const_data_ptr<int64_t>() + lengths.numel());
}

// What the loss compares with, where it compares: the policy from before the round's first update, and the reference.
void RolloutSource::score(std::vector<Batch>& batches) {
  const bool needs_old = !plan_.batch().is_on_policy(), needs_reference = config_.beta != 0;
  if (!needs_old && !needs_reference) return;
  const Stopwatch stopwatch;
  if (needs_old) score_by_old_policy(batches);
  if (needs_reference) score_by_reference(batches);
  round_metrics_["rollout/scoring_seconds"] =  // results are on the host
      comm::all_reduce_value(parts_.communicator, stopwatch.seconds(), comm::ReduceOp::kMax);
}

void RolloutSource::score_by_old_policy(std::vector<Batch>& batches) const {
  for (Batch& batch : batches) batch.policy->old_log_probs = scores_of(batch).log_probs.cpu();
}

void RolloutSource::score_by_reference(std::vector<Batch>& batches) const {
  parts_.reference->while_in_force([&] {
    for (Batch& batch : batches) batch.policy->reference_log_probs = scores_of(batch).log_probs.cpu();
  });
}

// By the model as it is now.
PolicyScores RolloutSource::scores_of(const Batch& batch) const {
  PolicyScores scores = score_policy(parts_.model, batch.to(parts_.device), config_.temperature, parts_.hooks);
  if (parts_.shards) parts_.shards->end_passes();
  return scores;
}

void RolloutSource::restore(const SourcePosition& position, int64_t num_updates) {
  if (position.epoch < 0 || position.item < 0 || position.item > plan_.steps_per_epoch() * completions_of_step() ||
      position.item % completions_of_step() != 0)
    fail(
        ErrorKind::kCheckpoint, "the checkpoint stands at completion ", position.item, " of epoch ", position.epoch,
        ", and the recipe's epochs have ", plan_.steps_per_epoch() * completions_of_step(), " in micro-batches of ",
        completions_of_step(),
        " over all ranks: data.train or the sizes of the batches have changed. Write them as they were, or begin a new "
        "run (training.resume_from_checkpoint: false)");
  position_ = position;
  num_updates_ = num_updates;
}

// Micro-batches of a rank that updates have taken of the round where position_ stands, each use counted; 0: they stand
// between two rounds.
int64_t RolloutSource::steps_into_round() const {
  return position_.item / completions_of_step() % plan_.steps_per_round();
}

RoundPlace RolloutSource::place_of(int64_t epoch, int64_t round) const {
  return {.epoch = epoch, .number = round, .num_completions = plan_.batch().num_completions()};
}

// Of the round where position_ stands.
RoundPlace RolloutSource::place() const {
  return place_of(position_.epoch, position_.item / completions_of_step() / plan_.steps_per_round());
}

// Of its micro-batches on a rank the first that is used again.
int64_t RolloutSource::first_left() const {
  const int64_t num_left = plan_.steps_per_round() - steps_into_round();
  return std::max<int64_t>(plan_.batch().steps_per_generation - num_left, 0);
}

// Of this rank, by micro-batch.
std::vector<std::vector<int64_t>> RolloutSource::samples_left() const {
  const std::vector<Slot> slots = plan_.slots(place().epoch, place().number, parts_.communicator.rank());
  const int64_t size = plan_.batch().update.per_micro_batch;
  std::vector<std::vector<int64_t>> samples;
  for (int64_t i = first_left() * size; i < static_cast<int64_t>(slots.size()); ++i) {
    if (i % size == 0) samples.emplace_back();
    samples.back().push_back(slots[static_cast<size_t>(i)].sample);
  }
  return samples;
}

void RolloutSource::save_state(const std::filesystem::path& folder) const {
  // an update that needs more than one round may have failed in its last one
  if (steps_into_round() == 0 || round_ != place()) return;
  save_round(folder, round_, config_.temperature, {batches_.begin() + first_left(), batches_.end()}, round_metrics_,
             parts_.communicator);
}

void RolloutSource::load_state(const std::filesystem::path& folder) {
  if (steps_into_round() == 0) return;
  const std::optional<SavedRound> saved = SavedRound::load(folder, parts_.model.spec().vocab_size);
  if (comm::any_rank(parts_.communicator, !saved || !fits(*saved))) {
    parts_.logger.warn(
        "the checkpoint lies inside a round of sampling and does not hold what is left of it as the recipe has it (an "
        "earlier version of dsft saved it, or the rounds, grpo.temperature or grpo.beta have changed): that is sampled "
        "again by the policy as it is now");
    return;
  }
  batches_.assign(static_cast<size_t>(first_left()), Batch());
  for (const std::vector<int64_t>& samples : samples_left()) {
    batches_.push_back(saved->batch_of(samples));
    keep_prompt_lengths(batches_.back());
  }
  round_metrics_ = saved->metrics();
  round_ = place();
}

bool RolloutSource::fits(const SavedRound& saved) const {
  if (saved.round() != place() || saved.temperature() != config_.temperature ||
      (config_.beta != 0 && !saved.has_reference_log_probs()) ||
      (!plan_.batch().is_on_policy() && !saved.has_old_log_probs()))
    return false;
  for (const std::vector<int64_t>& samples : samples_left())
    if (!std::all_of(samples.begin(), samples.end(), [&](int64_t sample) { return saved.has(sample); })) return false;
  return true;
}

double RolloutSource::epoch_progress() const {
  return static_cast<double>(position_.epoch) +
         static_cast<double>(position_.item) / static_cast<double>(plan_.steps_per_epoch() * completions_of_step());
}

}  // namespace dsft::rl
