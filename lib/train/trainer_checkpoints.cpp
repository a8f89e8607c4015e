// The trainer's checkpoints and its end.
#include <nlohmann/json.hpp>

#include "checkpoint/agreed_step.h"
#include "checkpoint/manifest.h"
#include "checkpoint/save_model.h"
#include "comm/small_collectives.h"
#include "io/atomic_directory.h"
#include "train/trainer.h"
#include "zero/part_name.h"

namespace dsft::train {

namespace fs = std::filesystem;

namespace {

fs::path checkpoint_path(const RunContext& context, int64_t step) {
  return context.output_dir / concat("checkpoint-", step);
}

}  // namespace

void Trainer::maybe_save() {
  bool is_due = false;
  switch (config_.save_strategy) {
    case SaveStrategy::kNo:
      break;
    case SaveStrategy::kSteps:
      is_due = state_.step % config_.save_steps == 0 || is_last_step();
      break;
    case SaveStrategy::kEpoch:
      is_due = is_epoch_end();
      break;
    case SaveStrategy::kBest:
      is_due = state_.best_step == state_.step;
      break;
  }
  if (is_due) save_checkpoint(Content::kAsConfigured);
}

checkpoint::TrainerState Trainer::trainer_state() const {
  checkpoint::TrainerState state;
  state.epoch = job_.source->epoch_progress();
  state.global_step = state_.step;
  state.max_steps = job_.max_steps;
  state.num_train_epochs = config_.num_train_epochs;
  state.logging_steps = config_.logging_steps;
  state.eval_steps = config_.eval_steps.value_or(0);
  state.save_steps = config_.save_steps;
  state.train_batch_size = job_.source->items_per_micro_batch();
  state.num_input_tokens_seen = state_.num_tokens;
  state.best_metric = state_.best_metric;
  state.best_global_step = state_.best_step;
  if (state_.best_checkpoint) state.best_model_checkpoint = state_.best_checkpoint->string();
  if (state_.best_step == state_.step) state.best_model_checkpoint = checkpoint_path(context_, state_.step).string();
  state.log_history = state_.log_history;
  return state;
}

// Of this rank: the optimizer's, and that of callbacks under "<name>/".
checkpoint::NamedTensors Trainer::resumable_state() const {
  checkpoint::NamedTensors tensors;
  for (const zero::NamedState& item : job_.optimizer->state()) tensors.emplace_back(item.name, item.tensor);
  const bool all_ranks_write = job_.optimizer->num_state_shards() == context_.communicator.size();
  for (const auto& callback : job_.callbacks) {
    for (const zero::NamedState& item : callback->state()) {
      const bool is_part = zero::parse_part_name(item.name).has_value();
      DSFT_CHECK(!is_part || all_ranks_write, callback->name(), " gives parts of ", item.name,
                 ", and the ranks share no state of the optimizer");
      if (context_.communicator.rank() == 0 || is_part)
        tensors.emplace_back(callback->name() + kOfCallback + item.name, item.tensor);
    }
  }
  return tensors;
}

void Trainer::save_checkpoint(Content content) {
  report_unread();
  const bool is_resumable = content == Content::kResumable || !config_.save_only_model;
  if ((is_resumable ? state_.last_resumable_step : state_.last_saved_step) == state_.step) return;
  context_.enter("saving a checkpoint");
  checkpoint::RunState run_state;
  run_state.run = state_.run;
  run_state.trainer = trainer_state();
  const SourcePosition position = job_.source->position();
  run_state.position =
      nlohmann::json({{"epoch", position.epoch}, {"item", position.item}, {"data", job_.data_fingerprint}}).dump();
  run_state.random = nlohmann::json({{"seed", context_.seed},
                                     {"evaluations_without_progress", state_.evaluations_without_progress},
                                     {"is_evaluation_cut", state_.is_evaluation_cut}})
                         .dump();
  run_state.weights_size_bytes = job_.weights_size_bytes;
  run_state.optimizer_shards = job_.optimizer->num_state_shards();
  if (is_resumable) run_state.optimizer = resumable_state();
  try {
    const auto save_files = [&](const fs::path& checkpoint) {
      job_.save_weights(checkpoint);
      if (is_resumable) job_.source->save_state(checkpoint / checkpoint::kStateFolder);
    };
    checkpoint::save_run_state(context_.output_dir, run_state, save_files, context_.communicator);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kCheckpoint) throw;
    state_.save_fault = error.full_message();
    context_.logger.warn("checkpoint-", state_.step, " COULD NOT BE SAVED; later ones are tried when they are due. ",
                         error.full_message());
    return;
  }
  if (is_resumable) state_.last_resumable_step = state_.step;
  note_saved();
}

void Trainer::note_saved() {
  state_.save_fault.reset();
  state_.last_saved_step = state_.step;
  if (state_.best_step == state_.step) state_.best_checkpoint = checkpoint_path(context_, state_.step);
  message(concat("Saved ", checkpoint_path(context_, state_.step).string()));
  if (config_.save_total_limit && context_.communicator.rank() == 0) {
    const auto best = state_.best_checkpoint ? checkpoint::step_of_checkpoint(*state_.best_checkpoint) : std::nullopt;
    const checkpoint::Rotation rotation{*config_.save_total_limit, state_.run, state_.step, best,
                                        state_.last_resumable_step};
    for (const std::string& fault : checkpoint::rotate_checkpoints(context_.output_dir, rotation))
      context_.logger.warn(fault);
  }
  context_.communicator.barrier();
}

void Trainer::finish(RunEnd end) {
  if (config_.load_best_model_at_end) load_best();
  tell([](Observer& observer) { observer.on_end(); });
  save_final_weights(end);
}

void Trainer::load_best() {
  if (!state_.best_checkpoint || state_.best_step == state_.step) return;
  fs::path best = *state_.best_checkpoint;
  std::optional<std::string> fault;
  if (context_.communicator.rank() == 0) {
    // the folder may have been moved with all that is in it
    if (!fs::exists(best)) best = context_.output_dir / best.filename();
    fault = checkpoint::find_checkpoint_fault(best);
    if (fault)
      context_.logger.warn("load_best_model_at_end: ", best.string(), " cannot be used (", *fault,
                           "); the last weights are kept");
  }
  if (comm::any_rank(context_.communicator, fault.has_value())) return;
  best = comm::broadcast_bytes(context_.communicator, best.string());
  job_.load_weights(best);
  message(concat("The weights are those of the best checkpoint, ", best.string()));
}

void Trainer::publish_weights() {
  const bool is_writer = context_.communicator.rank() == 0;
  std::optional<io::AtomicDirectory> finished;
  const auto write = [&](const std::function<void()>& step) {
    checkpoint::run_agreed(context_.communicator, [&] {
      if (is_writer) step();
    });
  };
  // under a checkpoint's temporary name, which the next run clears away where this one is killed
  write([&] { finished.emplace(checkpoint_path(context_, state_.step)); });
  const fs::path path =
      comm::broadcast_bytes(context_.communicator, is_writer ? finished->path().string() : std::string());
  job_.save_weights(path);
  write([&] { checkpoint::publish_files(finished->path(), context_.output_dir); });
}

void Trainer::save_final_weights(RunEnd end) {
  std::string fault;
  try {
    publish_weights();
    return;
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kCommunication) throw;
    fault = error.full_message();
  }
  if (end == RunEnd::kStoppedBySignal && state_.last_resumable_step >= 0) {
    context_.logger.warn("The weights up to here could not be written to ", context_.output_dir.string(), ": ", fault,
                         " The run can go on from checkpoint-", state_.last_resumable_step, ".");
    return;
  }
  fail(ErrorKind::kCheckpoint, "The trained weights could not be written to ", context_.output_dir.string(), ": ",
       fault,
       state_.last_saved_step >= 0 ? concat(" The last whole checkpoint is checkpoint-", state_.last_saved_step, ".")
                                   : std::string(" No checkpoint could be saved either."));
}

void Trainer::require_saved(RunEnd end) const {
  const std::string fault = state_.save_fault.value_or("");
  if (end == RunEnd::kStoppedBySignal && state_.last_resumable_step < 0)
    fail(ErrorKind::kCheckpoint, "The run was stopped by a signal and cannot be continued, for its state could not be ",
         "saved. Its weights up to here are in ", context_.output_dir.string(), ". ", fault);
  if (end == RunEnd::kFinished && state_.save_fault && state_.last_saved_step < 0)
    fail(ErrorKind::kCheckpoint, "The run has ended and its weights are in ", context_.output_dir.string(),
         ", but no checkpoint of it could ever be saved. ", fault);
}

}  // namespace dsft::train
