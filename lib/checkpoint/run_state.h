#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/tensor_file.h"
#include "checkpoint/trainer_state.h"
#include "comm/communicator.h"

namespace dsft::checkpoint {

/// What one rank adds to a checkpoint of a run.
struct RunState {
  TrainerState trainer;
  std::string position;    ///< JSON text of the place in the data; equal on all ranks
  std::string random;      ///< JSON text of seeds and counters; equal on all ranks
  NamedTensors optimizer;  ///< of this rank
};

/// Writes output_dir/checkpoint-<step>/: `save_weights` puts the weight files and what belongs to them into the folder
/// it is given (on rank 0 only), then come trainer_state.json and dsft_state/ with position, random and each rank's
/// optimizer, and last manifest.json with the size and XXH64 of every file. The folder is written as
/// checkpoint-<step>.tmp and renamed when all is durable. Where any rank fails (a full disk), the temporary folder is
/// deleted and every rank throws kCheckpoint; older checkpoints stay. Collective.
void save_run_state(const std::filesystem::path& output_dir, const RunState& state,
                    const std::function<void(const std::filesystem::path&)>& save_weights,
                    comm::Communicator& communicator);

/// Reads what save_run_state wrote, with all checks. `rank` of `num_ranks`: the optimizer part to read; the numbers
/// must be those of the saving run (num_saved_ranks says them). Throws kCheckpoint.
RunState load_run_state(const std::filesystem::path& checkpoint, int rank, int num_ranks);

/// How many ranks wrote a checkpoint.
int num_saved_ranks(const std::filesystem::path& checkpoint);

/// Why a folder is no whole checkpoint, or nothing: the manifest is there, and every file of it has its size and
/// checksum.
std::optional<std::string> find_checkpoint_fault(const std::filesystem::path& checkpoint);

/// The checkpoints of a run, newest first, valid or not.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& output_dir);

/// The newest whole checkpoint.
struct FoundCheckpoint {
  std::optional<std::filesystem::path> path;  ///< empty where there is none
  std::vector<std::string> ignored;           ///< one sentence per newer folder that is not whole
};
FoundCheckpoint find_newest_checkpoint(const std::filesystem::path& output_dir);

/// Deletes the oldest checkpoints beyond `limit`, never the one of `best_step`, never the newest (HF's
/// save_total_limit). A limit below 1 keeps all.
void rotate_checkpoints(const std::filesystem::path& output_dir, int64_t limit, std::optional<int64_t> best_step);

}  // namespace dsft::checkpoint
