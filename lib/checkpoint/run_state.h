#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/tensor_file.h"
#include "checkpoint/trainer_state.h"
#include "comm/communicator.h"
#include "zero/saved_state.h"

namespace dsft::checkpoint {

/// What one rank adds to a checkpoint of a run.
struct RunState {
  TrainerState trainer;
  int64_t run = 1;                  ///< which run of its output_dir this is: each that starts anew has the next number
  std::string position;             ///< JSON text of the place in the data; equal on all ranks
  std::string random;               ///< JSON text of seeds and counters; equal on all ranks
  NamedTensors optimizer;           ///< of this rank
  int optimizer_shards = 1;         ///< the first so many ranks write theirs; 1 where every rank holds the same
  uint64_t weights_size_bytes = 0;  ///< about what the weights take: space is looked for before anything is written
};

/// Writes output_dir/checkpoint-<step>/: `save_files`, which every rank calls, puts the weight files and what belongs
/// to them into the folder it is given, and what else the run needs into its dsft_state/; it may be collective, and
/// fails on all ranks or on none (WritingRanks). Then come trainer_state.json and dsft_state/ with position, random and
/// the shards of the optimizer, and last manifest.json with the size and XXH64 of every file. The folder is written as
/// checkpoint-<step>.tmp and renamed when all is durable. Where any rank fails (a full disk, seen before or while it is
/// written), the temporary folder is deleted and every rank throws kCheckpoint; older checkpoints stay. Collective.
void save_run_state(const std::filesystem::path& output_dir, const RunState& state,
                    const std::function<void(const std::filesystem::path&)>& save_files,
                    comm::Communicator& communicator);

/// Reads what save_run_state wrote but for the optimizer; the run that goes on may have any number of ranks. Throws
/// kCheckpoint.
RunState load_run_state(const std::filesystem::path& checkpoint);

/// The optimizer of a checkpoint, the parts of all shards, of which nothing is read yet; empty where the checkpoint
/// holds the model alone. Throws kCheckpoint, when a part is read too.
std::vector<zero::StoredState> open_optimizer_state(const std::filesystem::path& checkpoint);

/// Why a folder is no whole checkpoint, or nothing: the manifest is there, and every file of it has its size and
/// checksum.
std::optional<std::string> find_checkpoint_fault(const std::filesystem::path& checkpoint);

/// Which run of its output_dir wrote a checkpoint (0: one that did not count them yet); nothing where there is no
/// manifest that can be read.
std::optional<int64_t> run_of_checkpoint(const std::filesystem::path& checkpoint);

/// The step in a folder's name "checkpoint-<step>", or nothing.
std::optional<int64_t> step_of_checkpoint(const std::filesystem::path& checkpoint);

/// The checkpoints of a folder, newest first: by run, then by step. Valid or not; those that do not say their run
/// count to the last one.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& output_dir);

/// The newest whole checkpoint that a run can continue from.
struct FoundCheckpoint {
  std::optional<std::filesystem::path> path;         ///< empty where there is none
  std::optional<std::filesystem::path> model_alone;  ///< the newest whole one without what a run continues from
  std::vector<std::string> ignored;                  ///< one sentence per newer folder that cannot be used
};
FoundCheckpoint find_newest_checkpoint(const std::filesystem::path& output_dir);

/// The number of a run that starts anew in a folder.
int64_t next_run(const std::filesystem::path& output_dir);

/// Whether a checkpoint holds what a run continues from; false for a model alone (save_only_model).
bool is_resumable(const std::filesystem::path& checkpoint);

/// What of a run's checkpoints is kept.
struct Rotation {
  int64_t limit = 0;  ///< HF's save_total_limit; below 1 keeps all
  int64_t run = 1;
  int64_t last_step = 0;                            ///< just saved: never deleted
  std::optional<int64_t> best_step = {};            ///< never deleted
  std::optional<int64_t> last_resumable_step = {};  ///< never deleted: where the run would go on
};

/// Deletes the oldest checkpoints of a run beyond the limit; those of other runs and of other programs are not touched
/// and not counted. Gives one sentence per folder that could not be deleted.
std::vector<std::string> rotate_checkpoints(const std::filesystem::path& output_dir, const Rotation& rotation);

/// Deletes what a killed run left of a checkpoint that it was writing or deleting.
void remove_unfinished_checkpoints(const std::filesystem::path& output_dir);

}  // namespace dsft::checkpoint
