#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/logger.h"
#include "rewards/reward_config.h"
#include "rewards/sample.h"

namespace dsft::rewards {

struct ScorerOptions {
  /// For the programs' standard error, reward-<name>-<rank>-<worker>.log; made where it is missing. Empty: none is
  /// kept.
  std::filesystem::path log_folder;
  int64_t num_threads = 2;      ///< for the built-in functions
  double start_timeout_s = 60;  ///< from a program's start to its first line
};

/// A reward that could not be had for a sample.
struct FailedReward {
  int64_t index = 0;    ///< of the sample
  size_t function = 0;  ///< of the entries
  std::string reason;
};

/// What N samples got from F functions.
struct Scores {
  std::vector<int64_t> indices;                             ///< [N], ascending
  std::vector<std::vector<std::optional<double>>> rewards;  ///< [N][F]; nothing: does not apply, or failed
  std::vector<FailedReward> failures;                       ///< by index, then function

  /// Samples for which at least one function failed: they are to be masked.
  std::vector<int64_t> failed_indices() const;
  /// How often each of `num_functions` functions failed: what ranks add up.
  std::vector<int64_t> count_failures(size_t num_functions) const;
};

/// Judges completions while others are still being sampled: submit() never waits, collect() waits for what has been
/// submitted. Built-in functions run on a few threads; each program in its own processes, which stay alive between
/// steps, get parts of what is submitted, what came in while they were busy as one request (ProgramWorkers), have a
/// deadline for each request and are started again after a failure. A program that fails again and again is given up:
/// then its samples fail at once. Results do not depend on who computed them when. All methods may be called from one
/// thread at a time.
class Scorer final {
 public:
  /// Starts the programs without waiting for them. `logger` gives the rank; failures are said on the rank where they
  /// happen, a few of each function.
  Scorer(std::vector<RewardConfig> rewards, ScorerOptions options, Logger logger);
  /// Stops at once what runs, and ends the programs.
  ~Scorer();
  Scorer(const Scorer&) = delete;
  Scorer& operator=(const Scorer&) = delete;

  /// Waits until every program has said its name. Throws kData where one cannot be started: a mistake to be heard of
  /// before anything expensive is done.
  void wait_until_ready();

  /// Hands in samples `first_index`, `first_index` + 1, ... of a step.
  void submit(int64_t step, int64_t first_index, std::vector<Sample> samples);

  /// Waits at most so long for all that was submitted; true where nothing is left to wait for.
  bool wait_for(std::chrono::milliseconds timeout);

  /// Waits for all that was submitted since the last call, and gives it. An index that was submitted twice is a bug.
  Scores collect();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The message with which a run ends (after saving, as kData) where more than the share `max_failed` of `num_samples`
/// samples of a step failed; nothing where it goes on. `num_failures`: of each function, as count_failures gives them.
/// All numbers summed over the ranks, so that every rank decides alike.
std::optional<std::string> too_many_failures(int64_t step, int64_t num_failed_samples, int64_t num_samples,
                                             double max_failed, const std::vector<RewardConfig>& rewards,
                                             const std::vector<int64_t>& num_failures);

}  // namespace dsft::rewards
