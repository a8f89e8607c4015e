#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/run_state.h"
#include "device/moment.h"
#include "train/job.h"
#include "train/metric_means.h"
#include "train/run_context.h"
#include "train/training_step.h"

namespace dsft::train {

/// How the updates of a job are computed, by its `training` section, its model and its device.
StepOptions step_options(const Job& job, const TrainingConfig& config);

/// How a run ended, where it did not fail.
enum class RunEnd { kFinished, kStoppedBySignal };

/// The one training loop. Every branch of it depends on values that are equal on all ranks.
class Trainer final {
 public:
  Trainer(Job job, const TrainingConfig& config, RunContext& context);

  /// Trains to the last step (or to a signal, or early stopping), and leaves the trained weights at the top of
  /// output_dir. Throws kData where loss or gradients stay non-finite, kCheckpoint where no checkpoint could ever be
  /// saved, or none to continue from after a signal. Collective.
  RunEnd run();

 private:
  struct State {
    int64_t run = 1;         ///< of those in output_dir (checkpoint::RunState)
    bool is_new_run = true;  ///< false: goes on as the run of that number
    int64_t step = 0;        ///< updates enqueued
    int64_t num_tokens = 0;
    int64_t bad_steps = 0;  ///< non-finite updates in a row
    int64_t evaluations_without_progress = 0;
    std::optional<double> best_metric;
    std::optional<int64_t> best_step;                      ///< of best_metric
    std::optional<std::filesystem::path> best_checkpoint;  ///< of the best that was saved: HF's best_model_checkpoint
    std::vector<std::string> log_history;                  ///< JSON objects
    int64_t last_saved_step = -1;
    int64_t last_resumable_step = -1;       ///< of the last checkpoint with all that a run continues from
    bool is_evaluation_cut = false;         ///< a signal came while this step's evaluation ran
    std::optional<std::string> save_fault;  ///< why the last attempt to save failed
  };
  /// An update that was enqueued and is not reported yet.
  struct UnreadStep {
    EnqueuedStep enqueued;
    StepReport report;  ///< as far as the host knows it
    bool is_scale_at_minimum = false;
    std::vector<Batch> micro_batches;
    std::optional<std::vector<comm::WaitTimes::Wait>> waits = {};  ///< where they are measured
  };
  /// Behind a callback's name in those of its saved tensors; no parameter's name has it.
  static constexpr char kOfCallback = '/';
  /// What a checkpoint holds: what the recipe wants, or all that a run continues from whatever the recipe wants.
  enum class Content { kAsConfigured, kResumable };

  void start();
  RunEnd train();
  std::optional<std::vector<Batch>> next_micro_batches();
  void train_step(std::vector<Batch> micro_batches);
  bool measures_waits() const;
  void restart_peak_memory();
  void report_unread();
  UnreadStep tell_unread();
  bool reads_at_once() const;
  void tell_before_failure() noexcept;
  void notify(const StepReport& report);
  void maybe_evaluate();
  void maybe_save();
  bool is_last_step() const { return state_.step == job_.max_steps; }
  bool is_done() const;
  bool is_epoch_end() const;
  int agreed_signal();
  bool stop_agreed();
  bool is_out_of_patience() const;
  void check_finite(const UnreadStep& step);

  std::optional<std::map<std::string, double>> run_evaluations();
  void evaluate();
  [[noreturn]] void end_with_fault(const std::string& fault);
  void judge(const std::map<std::string, double>& metrics);
  void save_checkpoint(Content content);
  void note_saved();
  void finish(RunEnd end);
  void require_saved(RunEnd end) const;
  void load_best();
  void publish_weights();
  void save_final_weights(RunEnd end);
  void resume();
  void begin_anew();
  std::optional<std::filesystem::path> choose_checkpoint() const;
  void restore(const std::filesystem::path& path);
  void restore_callbacks(const std::filesystem::path& path, std::vector<zero::StoredState>& saved);
  void restore_progress(const std::filesystem::path& path, checkpoint::RunState& saved);
  void restore_position(const std::filesystem::path& path, const std::string& saved);
  void restore_batch_size(const std::filesystem::path& path, int64_t saved);
  checkpoint::TrainerState trainer_state() const;
  checkpoint::NamedTensors resumable_state() const;
  void tell(const std::function<void(Observer&)>& call);
  void message(const std::string& line);
  void enter_step(const char* part) const;

  Job job_;
  const TrainingConfig& config_;
  RunContext& context_;
  TrainingStep step_;
  State state_;
  LogWindow since_log_;
  std::optional<UnreadStep> unread_;          ///< the last one, where numbers are read late
  std::optional<device::Moment> step_begin_;  ///< of the update that is told next: the end of the one before it, or
                                              ///< later where something else came between
  double data_seconds_ = 0;                   ///< the device waited for the rows of the update that is next
  int64_t peak_bytes_ = 0;                    ///< of memory, so far
  bool has_observer_failed_ = false;
};

}  // namespace dsft::train
