#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "batch/batch.h"
#include "comm/communicator.h"

namespace dsft::rl {

/// A round of sampling among those of a run.
struct RoundPlace {
  int64_t epoch = -1;
  int64_t number = 0;           ///< in the epoch
  int64_t num_completions = 0;  ///< over all ranks
  bool operator==(const RoundPlace&) const = default;
};

/// Writes `left`, the micro-batches of a round that a rank has still to train, into round.safetensors of a folder, with
/// what is reported of the round: the completions of all ranks in one file, in no order, each under its number in the
/// epoch (Batch::samples), so that any number of ranks finds its own. Where there are R with T tokens, N of the policy:
///
///   round                                                 int64 [3]: RoundPlace
///   temperature                                           fp64 [1]: of the log-probabilities
///   samples, lengths, completion_lengths                  int64 [R]: lengths with the prompt
///   ids                                                   int32 [T]
///   advantages, row_weights                               fp32 [R]
///   weights, sampling_log_probs                           fp32 [N]
///   old_log_probs, reference_log_probs                    fp32 [N], where they are kept
///   metrics/<name>                                        fp64 [1]
///
/// Collective: fails on all ranks or on none.
void save_round(const std::filesystem::path& folder, const RoundPlace& round, double temperature,
                const std::vector<Batch>& left, const std::map<std::string, double>& metrics,
                comm::Communicator& communicator);

/// What save_round wrote.
class SavedRound final {
 public:
  /// Nothing where the folder has no such file. Throws kCheckpoint where it is damaged, or has ids that are none of
  /// `vocab_size` tokens.
  static std::optional<SavedRound> load(const std::filesystem::path& folder, int64_t vocab_size);

  const RoundPlace& round() const { return round_; }
  double temperature() const { return temperature_; }
  const std::map<std::string, double>& metrics() const { return metrics_; }
  bool has_old_log_probs() const { return old_log_probs_.defined(); }
  bool has_reference_log_probs() const { return reference_log_probs_.defined(); }
  bool has(int64_t sample) const { return rows_.contains(sample); }

  /// The micro-batch of these completions, which are there, as it was when the round was saved.
  Batch batch_of(const std::vector<int64_t>& samples) const;

 private:
  SavedRound() = default;

  RoundPlace round_;
  double temperature_ = 1;
  std::map<int64_t, int64_t> rows_;     // by sample
  std::vector<int64_t> starts_;         // [R + 1], of rows in ids_
  std::vector<int64_t> policy_starts_;  // [R + 1], of rows in what has N elements
  at::Tensor ids_, advantages_, row_weights_, weights_, sampling_log_probs_, old_log_probs_, reference_log_probs_;
  std::map<std::string, double> metrics_;
};

}  // namespace dsft::rl
