// Where a run of the trainer begins: anew, or where an earlier one was saved.
#include <nlohmann/json.hpp>

#include "base/nearest_name.h"
#include "checkpoint/manifest.h"
#include "comm/small_collectives.h"
#include "train/trainer.h"

namespace dsft::train {

namespace fs = std::filesystem;

namespace {

// Data settings that give another order of items, so that a place inside an epoch means nothing any more.
constexpr const char* kItemKind = "data.packing";

bool is_newest(const fs::path& checkpoint, const fs::path& output_dir) {
  const std::vector<fs::path> all = checkpoint::list_checkpoints(output_dir);
  std::error_code error;
  return !all.empty() && fs::equivalent(all.front(), checkpoint, error);
}

}  // namespace

void Trainer::resume() {
  context_.enter("looking for checkpoints");
  if (context_.communicator.rank() == 0) checkpoint::remove_unfinished_checkpoints(context_.output_dir);
  if (const auto path = choose_checkpoint())
    restore(*path);
  else
    begin_anew();
}

// Rank 0 looks and tells the others: on a network file system each may see something else.
std::optional<fs::path> Trainer::choose_checkpoint() const {
  using Kind = ResumeFrom::Kind;
  const ResumeFrom& from = config_.resume_from_checkpoint;
  std::string chosen;
  if (context_.communicator.rank() == 0 && from.kind == Kind::kDirectory) {
    chosen = from.directory;
    if (const auto fault = checkpoint::find_checkpoint_fault(chosen))
      fail(ErrorKind::kCheckpoint, "resume_from_checkpoint: ", chosen, " is no whole checkpoint: ", *fault);
  }
  if (context_.communicator.rank() == 0 && from.kind == Kind::kNewest) {
    const checkpoint::FoundCheckpoint found = checkpoint::find_newest_checkpoint(context_.output_dir);
    for (const std::string& ignored : found.ignored) context_.logger.warn(ignored);
    // where there are models alone, restore() says that none can be continued, rather than begin again over them
    if (const auto& path = found.path ? found.path : found.model_alone)
      chosen = path->string();
    else
      context_.logger.warn("resume_from_checkpoint: true, but ", context_.output_dir.string(),
                           " holds no whole checkpoint; the run starts from the beginning");
  }
  chosen = comm::broadcast_bytes(context_.communicator, chosen);
  return chosen.empty() ? std::nullopt : std::optional<fs::path>(chosen);
}

void Trainer::begin_anew() {
  int64_t run = 0;
  if (context_.communicator.rank() == 0) {
    run = checkpoint::next_run(context_.output_dir);
    std::vector<std::string> names;
    for (const fs::path& path : checkpoint::list_checkpoints(context_.output_dir))
      names.push_back(path.filename().string());
    const bool was_asked = config_.resume_from_checkpoint.kind == ResumeFrom::Kind::kNewest;
    if (!names.empty())
      context_.logger.warn(context_.output_dir.string(), " holds checkpoints of an earlier run (", join_words(names),
                           "). They stay, but for those whose step this run saves too, and save_total_limit does not "
                           "count them.",
                           was_asked ? "" : " To continue them write training.resume_from_checkpoint: true.");
  }
  state_.run = comm::all_reduce_value(context_.communicator, run);
}

void Trainer::restore(const fs::path& path) {
  checkpoint::RunState saved = checkpoint::load_run_state(path);
  std::vector<zero::StoredState> optimizer = checkpoint::open_optimizer_state(path);
  if (optimizer.empty())
    fail(ErrorKind::kCheckpoint, path.string(),
         " holds the model alone (save_only_model: true); a run cannot be continued from it. Use it as model.path or "
         "lora.adapter.");
  job_.load_weights(path);
  restore_callbacks(path, optimizer);
  job_.optimizer->restore(std::move(optimizer));
  try {
    restore_progress(path, saved);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::kCheckpoint, path.string(),
         "/dsft_state: position.json or random.json is not what this version of ", "dsft writes: ", error.what());
  }
  // one that goes back behind later checkpoints is another run than theirs
  int64_t new_run = 0;
  if (context_.communicator.rank() == 0) {
    const bool goes_on =
        config_.resume_from_checkpoint.kind == ResumeFrom::Kind::kNewest || is_newest(path, context_.output_dir);
    if (!goes_on) new_run = checkpoint::next_run(context_.output_dir);
  }
  new_run = comm::all_reduce_value(context_.communicator, new_run);
  state_.is_new_run = new_run > 0;
  state_.run = state_.is_new_run ? new_run : saved.run;
  message(concat("Continuing from ", path.string(), " at step ", state_.step,
                 state_.step < job_.max_steps ? std::string()
                                              : concat(", and by the recipe the run ends at ", job_.max_steps,
                                                       ": a larger training.max_steps or num_train_epochs goes on")));
}

// Takes what is theirs out of the saved state.
void Trainer::restore_callbacks(const fs::path& path, std::vector<zero::StoredState>& saved) {
  std::map<std::string, std::vector<zero::StoredState>> by_name;
  std::erase_if(saved, [&](zero::StoredState& item) {
    const size_t end = item.name.find(kOfCallback);
    if (end == std::string::npos) return false;
    const std::string callback = item.name.substr(0, end);
    item.name.erase(0, end + 1);
    by_name[callback].push_back(std::move(item));
    return true;
  });
  for (const auto& callback : job_.callbacks) {
    auto state = by_name.extract(callback->name());
    if (!state.empty())
      callback->restore(zero::SavedState(std::move(state.mapped())));
    else
      context_.logger.warn(path.string(), " was saved by a run without ", callback->name(),
                           ", which therefore begins as in a new run");
  }
  for (const auto& [name, state] : by_name)
    context_.logger.warn(path.string(), " holds the state of ", name, ", which the recipe does not ask for any more");
}

void Trainer::restore_progress(const fs::path& path, checkpoint::RunState& saved) {
  const auto random = nlohmann::json::parse(saved.random);
  if (random.at("seed").get<uint64_t>() != context_.seed)
    fail(ErrorKind::kCheckpoint, path.string(), " was made with seed ", random.at("seed").get<uint64_t>(),
         " and the recipe says ", context_.seed, "; the order of rows would change. Write the same seed.");
  state_.step = state_.last_saved_step = state_.last_resumable_step = saved.trainer.global_step;
  restore_position(path, saved.position);
  restore_batch_size(path, saved.trainer.train_batch_size);
  state_.num_tokens = saved.trainer.num_input_tokens_seen;
  state_.best_metric = saved.trainer.best_metric;
  state_.best_step = saved.trainer.best_global_step;
  if (saved.trainer.best_model_checkpoint) state_.best_checkpoint = *saved.trainer.best_model_checkpoint;
  state_.evaluations_without_progress = random.at("evaluations_without_progress").get<int64_t>();
  state_.is_evaluation_cut = random.value("is_evaluation_cut", false);
  state_.log_history = std::move(saved.trainer.log_history);
}

void Trainer::restore_position(const fs::path& path, const std::string& saved) {
  const auto position = nlohmann::json::parse(saved);
  const SourcePosition place{position.at("epoch").get<int64_t>(), position.at("item").get<int64_t>()};
  std::vector<std::string> changed;
  if (const auto data = position.find("data"); data != position.end()) {
    for (const auto& [name, value] : job_.data_fingerprint)
      if (data->contains(name) && data->at(name) != value) changed.push_back(name);
  }
  const bool counts_other_items = std::find(changed.begin(), changed.end(), kItemKind) != changed.end();
  if (counts_other_items && place.item > 0)
    fail(ErrorKind::kCheckpoint, path.string(), " stands inside an epoch, at item ", place.item,
         ", and with another data.packing its items are not the same ones. Write the value of the run that saved it.");
  job_.source->restore(place, state_.step);
  job_.source->load_state(path / checkpoint::kStateFolder);
  if (!changed.empty())
    context_.logger.warn("the data is not that of the run that saved ", path.string(), ": ", join_words(changed),
                         changed.size() == 1 ? " has" : " have", " changed. The run goes on at the same place, item ",
                         place.item, " of epoch ", place.epoch,
                         ": some rows of that epoch may come twice or not at all.");
}

// Begins where the search of the run that saved has ended, as the Trainer does: the same micro-batches round alike.
void Trainer::restore_batch_size(const fs::path& path, int64_t saved) {
  if (!config_.auto_find_batch_size || saved < 1 || job_.source->items_per_micro_batch() <= saved) return;
  while (job_.source->items_per_micro_batch() > saved) job_.source->halve_micro_batches();
  message(concat("training.auto_find_batch_size: ", job_.source->items_per_micro_batch(),
                 " rows (or bins) in each micro-batch; ", path.string(), " had ", saved));
}

}  // namespace dsft::train
