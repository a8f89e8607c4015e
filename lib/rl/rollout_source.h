#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "batch/batch.h"
#include "rl/grpo_config.h"
#include "rl/policy_scores.h"
#include "rl/prompt_rows.h"
#include "rl/rollout_plan.h"
#include "rl/rollout_sampler.h"
#include "rl/saved_round.h"

namespace dsft::rl {

/// Rounds of sampling as a StepSource: where an update needs completions that are not there yet, the policy as it then
/// is answers the next prompts, the answers are judged, and advantages, log-probabilities of the policy before the
/// round's updates and of the reference are taken. Each update has training.gradient_accumulation_steps micro-batches,
/// but for the last of an epoch. The state is what is left of the round that updates stand in, on any number of ranks;
/// a run that continues without it samples that again, by the policy it has then.
class RolloutSource final : public StepSource {
 public:
  RolloutSource(const GrpoConfig& config, RolloutPlan plan, std::shared_ptr<const PromptRows> prompts,
                RolloutParts parts);
  ~RolloutSource() override;

  std::optional<std::vector<Batch>> next_step() override;
  SourcePosition position() const override { return position_; }
  void restore(const SourcePosition& position, int64_t num_updates) override;
  void save_state(const std::filesystem::path& folder) const override;
  void load_state(const std::filesystem::path& folder) override;
  int64_t items_per_micro_batch() const override { return plan_.batch().update.per_micro_batch; }
  std::optional<int64_t> halve_micro_batches() override { return std::nullopt; }  // groups would not stay whole
  int64_t steps_per_epoch() const override { return plan_.updates_per_epoch(); }
  double epoch_progress() const override;
  bool computes() const override { return true; }
  std::map<std::string, double> metrics() const override { return metrics_; }
  std::optional<std::string> fault() const override { return fault_; }
  bool is_cut() const override { return is_cut_; }

 private:
  bool begin_round(int64_t epoch, int64_t round);
  void learn_pool();
  void warn_without_rewards(const Round& round);
  std::vector<Batch> to_batches(const std::vector<Rollout>& rollouts, int64_t epoch) const;
  void keep_prompt_lengths(Batch& batch) const;
  PolicyScores scores_of(const Batch& batch) const;
  void score(std::vector<Batch>& batches);
  void score_by_old_policy(std::vector<Batch>& batches) const;
  void score_by_reference(std::vector<Batch>& batches) const;
  int64_t completions_of_step() const;
  int64_t steps_into_round() const;
  RoundPlace place_of(int64_t epoch, int64_t round) const;
  RoundPlace place() const;
  int64_t first_left() const;
  std::vector<std::vector<int64_t>> samples_left() const;
  bool fits(const SavedRound& saved) const;

  GrpoConfig config_;
  RolloutPlan plan_;
  std::shared_ptr<const PromptRows> prompts_;
  RolloutParts parts_;
  std::unique_ptr<RolloutSampler> sampler_;
  SourcePosition position_;                      // items: completions of the epoch, over all ranks, each use counted
  RoundPlace round_;                             // that batches_ are of
  std::vector<Batch> batches_;                   // of the round, on this rank: one for each of its steps; empty where
                                                 // the run goes on behind its last use
  std::map<std::string, double> round_metrics_;  // of the round that is there
  std::vector<PooledRound> pooled_;              // rounds of the update being made: the pool has not learned from them
  std::map<std::string, double> metrics_;        // of the rounds that the last update took: means
  int64_t num_updates_ = 0;                      // of the run, given so far
  std::optional<std::string> fault_;
  bool is_cut_ = false;
  bool has_warned_ = false;  // that there are no rewards
};

}  // namespace dsft::rl
