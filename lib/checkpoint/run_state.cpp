#include "checkpoint/run_state.h"

#include <torch/types.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/manifest.h"
#include "io/atomic_directory.h"
#include "io/file.h"
#include "io/json.h"

namespace dsft::checkpoint {

namespace fs = std::filesystem;

namespace {

std::string optimizer_file(int rank, int num_ranks) {
  return concat("optimizer-", rank, "-of-", num_ranks, ".safetensors");
}

/// Runs a step that only some ranks may fail in; afterwards all ranks agree, and all throw where one failed.
template <typename Step>
void run_agreed(comm::Communicator& communicator, const Step& step) {
  std::optional<Error> error;
  try {
    step();
  } catch (const Error& caught) {
    error = caught;
  } catch (const std::exception& caught) {
    error = Error(ErrorKind::kCheckpoint, concat("Saving failed: ", caught.what()));
  }
  at::Tensor failed = at::full({1}, error ? 1 : 0, at::kInt);
  communicator.all_reduce(failed, comm::ReduceOp::kMax);
  if (error) throw *error;
  if (failed.item<int>() != 0)
    fail(ErrorKind::kCheckpoint, "Another rank could not save its part of the checkpoint; nothing of it was kept.");
}

std::string read_small_json(const fs::path& path) {
  return io::read_json_file(path).dump();
}

}  // namespace

void save_run_state(const fs::path& output_dir, const RunState& state,
                    const std::function<void(const fs::path&)>& save_weights, comm::Communicator& communicator) {
  const fs::path target = output_dir / concat("checkpoint-", state.trainer.global_step);
  const fs::path temporary = target.string() + ".tmp";
  std::unique_ptr<io::AtomicDirectory>
      directory;  // on rank 0; deletes the temporary folder where an error leaves this function
  run_agreed(communicator, [&] {
    if (communicator.rank() != 0) return;
    directory = std::make_unique<io::AtomicDirectory>(target);
    fs::create_directory(temporary / kStateFolder);
  });
  run_agreed(communicator, [&] {
    write_tensors(temporary / kStateFolder / optimizer_file(communicator.rank(), communicator.size()), state.optimizer);
    if (communicator.rank() != 0) return;
    save_weights(temporary);
    write_trainer_state(temporary, state.trainer);
    io::write_text_file(temporary / kStateFolder / "position.json", state.position);
    io::write_text_file(temporary / kStateFolder / "random.json", state.random);
  });
  run_agreed(communicator, [&] {
    if (communicator.rank() != 0) return;
    write_manifest(temporary, state.trainer.global_step, communicator.size());
    directory->commit();
  });
}

RunState load_run_state(const fs::path& checkpoint, int rank, int num_ranks) {
  const int saved_ranks = num_saved_ranks(checkpoint);
  if (saved_ranks != num_ranks) {
    fail(ErrorKind::kCheckpoint, checkpoint.string(), " was written by ", saved_ranks, " ranks, not by ", num_ranks,
         ".");
  }
  RunState state;
  state.trainer = read_trainer_state(checkpoint);
  const fs::path folder = checkpoint / kStateFolder;
  state.position = read_small_json(folder / "position.json");
  state.random = read_small_json(folder / "random.json");
  const io::SafetensorsFile file = io::SafetensorsFile::open(folder / optimizer_file(rank, num_ranks));
  for (const io::TensorInfo& info : file.tensors()) state.optimizer.emplace_back(info.name, read_tensor(file, info));
  return state;
}

}  // namespace dsft::checkpoint
