#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>
#include <utility>

#include "base/stopwatch.h"
#include "comm/small_collectives.h"
#include "device/device.h"
#include "train/fit_micro_batches.h"
#include "train/metrics_line.h"
#include "train/non_finite.h"
#include "train/rank_comparison.h"

namespace dsft::train {

namespace {

constexpr int64_t kUpdatesMeasured = 16;
constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

// fp64 [max_steps] on the device
at::Tensor learning_rates(const Job& job, at::Device device) {
  at::Tensor rates = torch::empty({job.max_steps}, at::kDouble);
  for (int64_t step = 0; step < job.max_steps; ++step)
    rates.data_ptr<double>()[step] = optim::learning_rate(job.schedule, step);
  return rates.to(device);
}

nn::BlockRunner::Keep keep_of(GradientCheckpointing checkpointing) {
  switch (checkpointing) {
    case GradientCheckpointing::kTrue:
      return nn::BlockRunner::Keep::kInput;
    case GradientCheckpointing::kSelective:
      return nn::BlockRunner::Keep::kSelected;
    case GradientCheckpointing::kFalse:
      break;
  }
  return nn::BlockRunner::Keep::kGraph;
}

}  // namespace

StepOptions step_options(const Job& job, const TrainingConfig& config) {
  StepOptions options;
  options.keep = keep_of(config.gradient_checkpointing);
  // padding changes the rounding of some products, and one that promises the same bits should not depend on it; a graph
  // keeps addresses
  const bool are_stable = job.optimizer->has_stable_gradients() && !job.shards;
  if (config.cuda_graphs == CudaGraphs::kAuto && !config.full_determinism && are_stable)
    options.graphs = possible_graphs(*job.model, *job.loss);
  return options;
}

Trainer::Trainer(Job job, const TrainingConfig& config, RunContext& context)
    : job_(std::move(job)),
      config_(config),
      context_(context),
      step_({.model = *job_.model,
             .loss = *job_.loss,
             .optimizer = *job_.optimizer,
             .communicator = context.communicator,
             .hooks = job_.hooks.get(),
             .learning_rates = learning_rates(job_, context.device),
             .seed = context.seed,
             .heart = context.heart},
            step_options(job_, config)) {}

RunEnd Trainer::run() {
  start();
  RunEnd end = RunEnd::kFinished;
  try {
    end = train();
  } catch (...) {
    tell_before_failure();
    throw;
  }
  if (is_out_of_patience())
    message(concat("Stopping early: ", *config_.early_stopping_patience, " evaluations without a better ",
                   config_.metric_for_best_model.value_or("loss")));
  compare_trained_weights(*job_.model, job_.shards.get(), context_);
  context_.enter("writing the weights");
  finish(end);
  require_saved(end);
  return end;
}

RunEnd Trainer::train() {
  RunEnd end = RunEnd::kFinished;
  // a signal that comes in the last update has nothing left to stop, but for an evaluation that it cut short
  while (!is_done()) {
    enter_step("between updates");
    if (stop_agreed()) {
      end = RunEnd::kStoppedBySignal;
      save_checkpoint(Content::kResumable);
      break;
    }
    if (!state_.is_evaluation_cut) {
      if (!unread_) step_begin_.emplace(context_.device);  // the wait for data is part of a step
      auto micro_batches = next_micro_batches();
      if (!micro_batches) {                   // the same answer on every rank
        if (job_.source->is_cut()) continue;  // to where signals are looked at
        const auto fault = job_.source->fault();
        if (!fault) break;
        end_with_fault(*fault);
      }
      train_step(*std::move(micro_batches));
    }
    maybe_evaluate();
    maybe_save();
  }
  report_unread();
  return end;
}

bool Trainer::is_done() const {
  return !state_.is_evaluation_cut && (state_.step >= job_.max_steps || is_out_of_patience());
}

void Trainer::start() {
  resume();
  const RunPlan plan{.max_steps = job_.max_steps,
                     .first_step = state_.step,
                     .steps_per_epoch = job_.source->steps_per_epoch(),
                     .logging_steps = config_.logging_steps,
                     .is_new_run = state_.is_new_run,
                     .earlier_log = state_.log_history};
  tell([&](Observer& observer) { observer.on_start(plan); });
  context_.enter("looking for the batch size");
  if (config_.auto_find_batch_size)
    fit_micro_batches(*job_.source, step_, context_.device, context_.communicator,
                      [this](const std::string& line) { message(line); });
  // as the Trainer does: it is shown, and is no candidate for the best
  if (config_.eval_on_start && state_.step == 0) run_evaluations();
}

std::optional<std::vector<Batch>> Trainer::next_micro_batches() {
  enter_step("waiting for its rows");
  const Stopwatch stopwatch;
  auto micro_batches = job_.source->next_step();
  // a device that is still busy has not waited
  const bool is_busy = unread_ && !unread_->enqueued.end.has_passed();
  data_seconds_ = is_busy || job_.source->computes() ? 0 : stopwatch.seconds();
  return micro_batches;
}

// Waits take moments of the device, two for each collective: after the first updates few are enough.
bool Trainer::measures_waits() const {
  return context_.waits && (state_.step < kUpdatesMeasured || state_.step % kUpdatesMeasured == 0);
}

// The device's numbers of an update are read while it works on the next one, so that it never waits for the host.
void Trainer::train_step(std::vector<Batch> micro_batches) {
  std::optional<std::vector<comm::WaitTimes::Wait>> waits;
  const bool has_waits = measures_waits();
  if (has_waits) context_.waits->start();
  if (job_.source->computes()) restart_peak_memory();
  EnqueuedStep enqueued = step_.run(micro_batches, state_.step + 1);
  if (has_waits) waits = context_.waits->stop();
  StepReport report;
  report.step = ++state_.step;
  report.epoch = job_.source->epoch_progress();
  report.loss_scale = enqueued.loss_scale;
  report.step_tokens = enqueued.num_tokens;
  report.data_seconds = data_seconds_;
  report.num_tokens = state_.num_tokens += report.step_tokens;
  report.metrics = job_.source->metrics();
  const int64_t peak_bytes = device::peak_memory_bytes(context_.device);
  peak_bytes_ = std::max(peak_bytes_, peak_bytes);
  report.update_peak_gib = static_cast<double>(peak_bytes) / kGib;
  report.peak_memory_gib = static_cast<double>(peak_bytes_) / kGib;
  const optim::LossScaler* scaler = job_.optimizer->loss_scaler();
  report_unread();
  unread_ = UnreadStep{std::move(enqueued), report, !scaler || scaler->is_at_minimum(), std::move(micro_batches),
                       std::move(waits)};
  if (reads_at_once()) report_unread();
}

// What making the rows took is no part of an update's.
void Trainer::restart_peak_memory() {
  peak_bytes_ = std::max(peak_bytes_, device::peak_memory_bytes(context_.device));
  device::restart_peak_memory(context_.device);
}

bool Trainer::reads_at_once() const {
  return context_.numbers_are_read == NumbersAreRead::kAtOnce || !job_.callbacks.empty();
}

// Waits for the last update's numbers and tells them. What looks back on all updates so far (evaluations, checkpoints,
// the end) calls it first.
void Trainer::report_unread() {
  if (unread_) check_finite(tell_unread());
}

Trainer::UnreadStep Trainer::tell_unread() {
  UnreadStep step = *std::exchange(unread_, std::nullopt);
  enter_step("reading loss and norm");
  const StepNumbers numbers = step.enqueued.read(context_.communicator);
  context_.of_device().check();  // before anything of this update is told or saved
  step.report.loss = numbers.loss;
  for (const auto& [name, value] : numbers.metrics) step.report.metrics[name] = value;
  step.report.grad_norm = numbers.grad_norm;
  step.report.learning_rate = numbers.learning_rate;
  step.report.is_applied = numbers.is_applied;
  step.report.step_seconds = step.enqueued.end.seconds_since(*step_begin_);
  step.report.update_seconds = step.enqueued.end.seconds_since(step.enqueued.begin);
  step.report.optimizer_seconds = step.enqueued.end.seconds_since(step.enqueued.optimizer_begin);
  if (step.waits) step.report.wait_seconds = comm::total_seconds(*step.waits);
  step_begin_ = std::move(step.enqueued.end);
  for (const auto& callback : job_.callbacks) callback->after_update(step.report);
  notify(step.report);
  return step;
}

// The update before the one that failed is done, and the log should have it. Its loss is a sum over the ranks, of which
// some may be gone: with several ranks it stays untold.
void Trainer::tell_before_failure() noexcept {
  if (!unread_ || context_.communicator.size() > 1) return;
  try {
    tell_unread();
  } catch (...) {
    // the failure under way is the one to tell, and the likely reason of this one
  }
}

void Trainer::notify(const StepReport& report) {
  since_log_.add(report);
  const bool is_logged = report.step % config_.logging_steps == 0 || report.step == job_.max_steps;
  const StepReport mean = is_logged ? since_log_.take() : report;
  if (is_logged) state_.log_history.push_back(format_metrics(mean));
  tell([&](Observer& observer) {
    observer.on_step(report);
    if (is_logged) observer.on_log(mean);
  });
}

void Trainer::check_finite(const UnreadStep& step) {
  const StepReport& report = step.report;
  const bool is_bad = !std::isfinite(report.loss) || (!report.is_applied && step.is_scale_at_minimum);
  state_.bad_steps = is_bad ? state_.bad_steps + 1 : 0;
  if (is_bad)
    context_.logger.warn("step ", report.step, ": loss ", report.loss, ", gradient norm ", report.grad_norm,
                         "; the update was ", report.is_applied ? "applied" : "skipped");
  if (state_.bad_steps >= kMaxBadSteps) fail_not_finite(report, step.micro_batches, job_, context_);
}

int Trainer::agreed_signal() {
  const int64_t caught = context_.stop_signal ? context_.stop_signal->caught() : 0;
  return static_cast<int>(comm::all_reduce_value(context_.communicator, caught, comm::ReduceOp::kMax));
}

bool Trainer::stop_agreed() {
  const int signal = agreed_signal();
  if (signal == 0) return false;
  if (state_.step == 0) context_.stop_signal->end_process(signal);  // there is nothing to save
  report_unread();
  // by SIGUSR1 the launcher passes on whatever signal it has got
  const std::string asked =
      signal == SIGUSR1 ? "Asked to stop" : concat("Asked to stop by signal ", signal, " (", ::strsignal(signal), ")");
  message(concat(asked, ": saving after step ", state_.step,
                 " and ending with 75. Press Ctrl-C once more to end at once."));
  return true;
}

// Observers watch: what fails in one must not end the run.
void Trainer::tell(const std::function<void(Observer&)>& call) {
  for (auto& observer : job_.observers) {
    try {
      call(*observer);
    } catch (const std::exception& error) {
      if (!has_observer_failed_) context_.logger.warn("a log of the run failed; the run goes on. ", error.what());
      has_observer_failed_ = true;
    }
  }
}

// Of the update that is next, or under way.
void Trainer::enter_step(const char* part) const {
  if (context_.heart) context_.heart->enter(watchdog::PhaseKind::kStep, part, state_.step + 1);
}

void Trainer::message(const std::string& line) {
  tell([&](Observer& observer) { observer.on_message(line); });
}

}  // namespace dsft::train
