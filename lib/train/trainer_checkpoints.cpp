// The trainer's evaluations, checkpoints and end: what happens between updates.
#include <nlohmann/json.hpp>

#include "checkpoint/save_model.h"
#include "io/json.h"
#include "train/metrics_line.h"
#include "train/trainer.h"

namespace dsft::train {

namespace fs = std::filesystem;

void Trainer::maybe_evaluate(bool is_epoch_end) {
  const bool is_due = (config_.eval_strategy == EvalStrategy::kSteps && state_.step % *config_.eval_steps == 0) ||
                      (config_.eval_strategy == EvalStrategy::kEpoch && is_epoch_end);
  if (is_due) evaluate();
}

void Trainer::evaluate() {
  std::map<std::string, double> metrics;
  for (auto& evaluation : job_.evaluations) metrics.merge(evaluation->run(*job_.model, context_.communicator));
  const double epoch = job_.source->epoch_progress();
  state_.log_history.push_back(format_metrics(state_.step, epoch, metrics));
  for (auto& observer : job_.observers) observer->on_evaluation(state_.step, epoch, metrics);
  const std::string name = config_.metric_for_best_model.value_or("loss");
  auto found = metrics.find(name.starts_with("eval_") ? name : "eval_" + name);
  if (found == metrics.end()) return;
  const double value = found->second;
  const bool is_better =
      !state_.best_metric || (*config_.greater_is_better ? value > *state_.best_metric : value < *state_.best_metric);
  state_.evaluations_without_progress = is_better ? 0 : state_.evaluations_without_progress + 1;
  if (!is_better) return;
  state_.best_metric = value;
  state_.best_step = state_.step;
  state_.is_best_unsaved = true;
}

bool Trainer::is_out_of_patience() const {
  return config_.early_stopping_patience && state_.evaluations_without_progress >= *config_.early_stopping_patience;
}

void Trainer::maybe_save(bool is_epoch_end) {
  bool is_due = false;
  switch (config_.save_strategy) {
    case SaveStrategy::kNo:
      break;
    case SaveStrategy::kSteps:
      is_due = state_.step % config_.save_steps == 0;
      break;
    case SaveStrategy::kEpoch:
      is_due = is_epoch_end;
      break;
    case SaveStrategy::kBest:
      is_due = state_.is_best_unsaved;
      break;
  }
  if (is_due) save_checkpoint();
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
  state.train_batch_size = config_.per_device_train_batch_size;
  state.num_input_tokens_seen = state_.num_tokens;
  state.best_metric = state_.best_metric;
  if (state_.best_step) {
    state.best_global_step = state_.best_step;
    state.best_model_checkpoint = (context_.output_dir / concat("checkpoint-", *state_.best_step)).string();
  }
  state.log_history = "[";
  for (const std::string& entry : state_.log_history)
    state.log_history += (state.log_history.size() > 1 ? "," : "") + entry;
  state.log_history += "]";
  return state;
}

void Trainer::save_checkpoint() {
  if (state_.last_saved_step == state_.step) return;
  checkpoint::RunState run_state;
  run_state.trainer = trainer_state();
  const SourcePosition position = job_.source->position();
  run_state.position = nlohmann::json({{"epoch", position.epoch}, {"item", position.item}}).dump();
  run_state.random =
      nlohmann::json({{"seed", context_.seed}, {"evaluations_without_progress", state_.evaluations_without_progress}})
          .dump();
  if (!config_.save_only_model)
    for (const zero::NamedState& item : job_.optimizer->state())
      run_state.optimizer.emplace_back(item.name, item.tensor);
  try {
    checkpoint::save_run_state(context_.output_dir, run_state, job_.save_weights, context_.communicator);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kCheckpoint) throw;
    state_.save_fault = error.full_message();
    context_.logger.warn("checkpoint-", state_.step,
                         " could not be saved; training goes on and tries again at the next interval. ",
                         error.full_message());
    return;
  }
  state_.save_fault.reset();
  state_.last_saved_step = state_.step;
  state_.is_best_unsaved = false;
  message(concat("Saved ", (context_.output_dir / concat("checkpoint-", state_.step)).string()));
  if (config_.save_total_limit && context_.communicator.rank() == 0)
    checkpoint::rotate_checkpoints(context_.output_dir, *config_.save_total_limit, state_.best_step);
  context_.communicator.barrier();
}

void Trainer::resume() {
  if (config_.resume_from_checkpoint.kind == ResumeFrom::Kind::kNothing) return;
  fs::path path = config_.resume_from_checkpoint.directory;
  if (config_.resume_from_checkpoint.kind == ResumeFrom::Kind::kNewest) {
    const checkpoint::FoundCheckpoint found = checkpoint::find_newest_checkpoint(context_.output_dir);
    for (const std::string& ignored : found.ignored) context_.logger.warn(ignored);
    if (!found.path) {
      context_.logger.warn("resume_from_checkpoint: true, but ", context_.output_dir.string(),
                           " holds no whole checkpoint; the run starts from the beginning");
      return;
    }
    path = *found.path;
  } else if (const auto fault = checkpoint::find_checkpoint_fault(path)) {
    fail(ErrorKind::kCheckpoint, "resume_from_checkpoint: ", path.string(), " is no whole checkpoint: ", *fault);
  }
  const int saved_ranks = checkpoint::num_saved_ranks(path);
  if (saved_ranks != context_.communicator.size())
    fail(ErrorKind::kCheckpoint, path.string(), " was saved by ", saved_ranks, " ranks and this run has ",
         context_.communicator.size(), ". Start it with as many ranks; another number comes with ZeRO sharding.");
  checkpoint::RunState saved =
      checkpoint::load_run_state(path, context_.communicator.rank(), context_.communicator.size());
  if (saved.optimizer.empty())
    fail(ErrorKind::kCheckpoint, path.string(),
         " holds the model alone (save_only_model: true); a run cannot be continued from it. Use it as model.path or "
         "lora.adapter.");
  job_.load_weights(path);
  std::vector<zero::NamedState> optimizer;
  for (auto& [name, tensor] : saved.optimizer) optimizer.push_back({name, tensor});
  job_.optimizer->restore(optimizer);
  const auto position = nlohmann::json::parse(saved.position);
  const auto random = nlohmann::json::parse(saved.random);
  if (random.at("seed").get<uint64_t>() != context_.seed)
    fail(ErrorKind::kCheckpoint, path.string(), " was made with seed ", random.at("seed").get<uint64_t>(),
         " and the recipe says ", context_.seed, "; the order of rows would change. Write the same seed.");
  job_.source->restore({position.at("epoch").get<int64_t>(), position.at("item").get<int64_t>()});
  state_.step = saved.trainer.global_step;
  state_.last_saved_step = state_.step;
  state_.num_tokens = saved.trainer.num_input_tokens_seen;
  state_.best_metric = saved.trainer.best_metric;
  state_.best_step = saved.trainer.best_global_step;
  state_.evaluations_without_progress = random.at("evaluations_without_progress").get<int64_t>();
  for (const auto& entry : nlohmann::ordered_json::parse(saved.trainer.log_history))
    state_.log_history.push_back(entry.dump());
  message(concat("Continuing from ", path.string(), " at step ", state_.step));
}

void Trainer::finish() {
  if (config_.load_best_model_at_end && state_.best_step && *state_.best_step != state_.step) {
    const fs::path best = context_.output_dir / concat("checkpoint-", *state_.best_step);
    if (fs::exists(best))
      job_.load_weights(best);
    else
      context_.logger.warn("load_best_model_at_end: ", best.string(), " is not there; the last weights are kept");
  }
  save_final_weights();
  for (auto& observer : job_.observers) observer->on_end();
}

void Trainer::save_final_weights() {
  at::Tensor failed = torch::zeros({1}, at::kInt);
  std::string fault;
  if (context_.communicator.rank() == 0) {
    const fs::path finished = context_.output_dir / "final.tmp";
    try {
      fs::remove_all(finished);
      fs::create_directories(finished);
      job_.save_weights(finished);
      checkpoint::publish_files(finished, context_.output_dir);
    } catch (const std::exception& error) {
      fault = error.what();
      failed[0] = 1;
    }
    std::error_code ignored;
    fs::remove_all(finished, ignored);
  }
  context_.communicator.all_reduce(failed, comm::ReduceOp::kMax);
  if (failed.item<int>() == 0) return;
  fail(ErrorKind::kCheckpoint, "The trained weights could not be written to ", context_.output_dir.string(), ": ",
       fault,
       state_.last_saved_step >= 0 ? concat(" The last whole checkpoint is checkpoint-", state_.last_saved_step, ".")
                                   : std::string(" No checkpoint could be saved either."));
}

}  // namespace dsft::train
