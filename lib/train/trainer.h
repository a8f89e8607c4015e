#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/run_state.h"
#include "train/job.h"
#include "train/run_context.h"

namespace dsft::train {

/// How a run ended, where it did not fail.
enum class RunEnd { kFinished, kStoppedBySignal };

/// The one training loop. Every branch of it depends on values that are equal on all ranks.
class Trainer final {
 public:
  Trainer(Job job, const TrainingConfig& config, RunContext& context);

  /// Trains to the last step (or to a signal, or early stopping), and leaves the trained weights at the top of
  /// output_dir. Throws kData where loss or gradients stay non-finite, kCheckpoint where nothing could ever be saved.
  /// Collective.
  RunEnd run();

 private:
  struct State {
    int64_t step = 0;
    int64_t num_tokens = 0;
    int64_t bad_steps = 0;  ///< non-finite updates in a row
    int64_t evaluations_without_progress = 0;
    std::optional<double> best_metric;
    std::optional<int64_t> best_step;
    std::vector<std::string> log_history;  ///< JSON objects
    int64_t last_saved_step = -1;
    bool is_best_unsaved = false;
    std::optional<std::string> save_fault;  ///< why the last attempt to save failed
  };

  StepReport train_step(const std::vector<Batch>& micro_batches);
  void notify(const StepReport& report);
  void maybe_evaluate(bool is_epoch_end);
  void maybe_save(bool is_epoch_end);
  bool stop_agreed();
  bool is_out_of_patience() const;
  void check_finite(const StepReport& report, const std::vector<Batch>& micro_batches);

  void evaluate();
  void save_checkpoint();
  void finish();
  void save_final_weights();
  void resume();
  checkpoint::TrainerState trainer_state() const;
  void message(const std::string& line);

  Job job_;
  const TrainingConfig& config_;
  RunContext& context_;
  nn::BlockRunner runner_;
  at::Tensor learning_rates_;  ///< fp64 [max_steps], by the number of updates applied before
  State state_;
};

}  // namespace dsft::train
