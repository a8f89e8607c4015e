#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace dsft::train {

/// What one update was, as numbers on the host.
struct StepReport {
  int64_t step = 0;  ///< updates done, this one included
  double epoch = 0;
  double loss = 0;           ///< mean over all supervised tokens of the update, all ranks
  double grad_norm = 0;      ///< before clipping
  double learning_rate = 0;  ///< the one the update used
  bool is_applied = true;    ///< false: skipped, the gradients were not finite
  double loss_scale = 1;
  int64_t num_tokens = 0;                   ///< seen so far, all ranks
  int64_t step_tokens = 0;                  ///< of this update
  int64_t num_updates = 1;                  ///< of which step_tokens and step_seconds are: in a log more than one
  double step_seconds = 0;                  ///< of the device, the wait for its data included
  double data_seconds = 0;                  ///< of these the device waited for rows, at most
  double update_seconds = 0;                ///< of these, from the moment when its rows were there to the end
  double optimizer_seconds = 0;             ///< of these, from the last backward pass to the end
  std::optional<double> wait_seconds = {};  ///< of these the device waited for other ranks; none: not measured
  double peak_memory_gib = 0;               ///< of the run so far
  double update_peak_gib = 0;               ///< of this update, where what makes its rows computes, on a GPU
  std::map<std::string, double> metrics;    ///< mean_token_accuracy and whatever else the loss reports

  double tokens_per_second() const { return static_cast<double>(step_tokens) / step_seconds; }
  /// Seconds of an update; by the name of TRL's metric.
  double step_time() const { return step_seconds / static_cast<double>(num_updates); }
};

/// The course of a run, known before its first step.
struct RunPlan {
  int64_t max_steps = 0;
  int64_t first_step = 0;  ///< updates done before (resume)
  int64_t steps_per_epoch = 0;
  int64_t logging_steps = 1;
  bool is_new_run = true;                     ///< false: goes on where the files of output_dir end
  std::vector<std::string> earlier_log = {};  ///< JSON objects: what was logged up to first_step
};

/// Watches a run: progress, files, curves. Only rank 0 has observers; they never change training.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on_start(const RunPlan& /*plan*/) {}
  virtual void on_step(const StepReport& /*report*/) {}
  /// What is done before the next update, from 1 to `total`.
  virtual void on_activity(const std::string& /*what*/, int64_t /*done*/, int64_t /*total*/) {}
  /// Every RunPlan::logging_steps updates and at the last one, after on_step: the updates since the last log
  /// (LogWindow).
  virtual void on_log(const StepReport& /*mean*/) {}
  virtual void on_evaluation(int64_t /*step*/, double /*epoch*/, const std::map<std::string, double>& /*metrics*/) {}
  /// A line for the user; a progress line on a terminal makes room for it.
  virtual void on_message(const std::string& /*line*/) {}
  virtual void on_end() {}
};

}  // namespace dsft::train
