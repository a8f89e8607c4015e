// The trainer's evaluations: when, and which was the best.
#include <cmath>
#include <limits>

#include "train/metrics_line.h"
#include "train/trainer.h"

namespace dsft::train {

// An epoch ends with the update after which no item of it is left; one that max_steps or early stopping cuts short ends
// there, as the Trainer's does.
bool Trainer::is_epoch_end() const {
  const double epoch = job_.source->epoch_progress();
  return is_last_step() || is_out_of_patience() || std::abs(epoch - std::round(epoch)) < 1e-9;
}

void Trainer::maybe_evaluate() {
  state_.is_evaluation_cut = false;
  const bool is_due = (config_.eval_strategy == EvalStrategy::kSteps &&
                       (state_.step % eval_steps_of(config_) == 0 || is_last_step())) ||
                      (config_.eval_strategy == EvalStrategy::kEpoch && is_epoch_end());
  if (!is_due) return;
  report_unread();
  evaluate();
}

void Trainer::evaluate() {
  const auto metrics = run_evaluations();
  state_.is_evaluation_cut = !metrics;
  if (metrics && tracks_best(config_)) judge(*metrics);
}

std::optional<std::map<std::string, double>> Trainer::run_evaluations() {
  std::map<std::string, double> metrics;
  std::optional<std::string> fault;
  for (auto& evaluation : job_.evaluations) {
    context_.enter("evaluating");
    const bool gathers_blocks = job_.shards && evaluation->runs_by_blocks();
    const zero::WholeParameters whole(gathers_blocks ? nullptr : job_.shards.get());
    const auto must_stop = [this] {
      if (context_.heart) context_.heart->progress();
      return agreed_signal() != 0;
    };
    auto part = evaluation->run(
        *job_.model, context_.communicator,
        {.must_stop = must_stop, .hooks = gathers_blocks ? job_.hooks.get() : nullptr, .step = state_.step});
    if (gathers_blocks) job_.shards->end_passes();
    if (!part) {
      fault = evaluation->fault();
      if (fault) break;
      return std::nullopt;
    }
    // how much was measured on never changes in a run, and num_tokens is another number there
    std::erase_if(*part, [](const auto& metric) { return metric.first.starts_with("num_"); });
    metrics.merge(*part);
  }
  if (fault) {
    state_.is_evaluation_cut = state_.step > 0;  // the run that goes on makes up for the evaluation
    end_with_fault(*fault);
  }
  const double epoch = job_.source->epoch_progress();
  state_.log_history.push_back(format_metrics(state_.step, epoch, metrics));
  tell([&](Observer& observer) { observer.on_evaluation(state_.step, epoch, metrics); });
  return metrics;
}

void Trainer::end_with_fault(const std::string& fault) {
  if (state_.step == 0) fail(ErrorKind::kData, fault);  // there is nothing to save
  save_checkpoint(Content::kResumable);
  fail(ErrorKind::kData, fault, " The run is saved: mend what failed and go on from step ", state_.step,
       " with training.resume_from_checkpoint=true.");
}

void Trainer::judge(const std::map<std::string, double>& metrics) {
  const std::string name = config_.metric_for_best_model.value_or("loss");
  const auto found = metrics.find(name.starts_with("eval_") ? name : "eval_" + name);
  if (found == metrics.end())
    fail(ErrorKind::kUsage, "training.metric_for_best_model: no evaluation of the recipe measures `", name, "`");
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const bool is_greater_better = config_.greater_is_better.value_or(false);
  const double best = state_.best_metric.value_or(is_greater_better ? -kInfinity : kInfinity);
  // what is no number is never better
  const bool is_better = is_greater_better ? found->second > best : found->second < best;
  state_.evaluations_without_progress = is_better ? 0 : state_.evaluations_without_progress + 1;
  if (!is_better) return;
  state_.best_metric = found->second;
  state_.best_step = state_.step;
  // an evaluation that was made up for after a stop finds its step saved
  if (state_.last_saved_step == state_.step)
    state_.best_checkpoint = context_.output_dir / concat("checkpoint-", state_.step);
}

bool Trainer::is_out_of_patience() const {
  return config_.early_stopping_patience && state_.evaluations_without_progress >= *config_.early_stopping_patience;
}

}  // namespace dsft::train
