#include "checkpoint/run_state.h"

#include <torch/types.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/agreed_step.h"
#include "checkpoint/manifest.h"
#include "comm/small_collectives.h"
#include "io/atomic_directory.h"
#include "io/file.h"
#include "io/json.h"

namespace dsft::checkpoint {

namespace fs = std::filesystem;

namespace {

int64_t optimizer_size_bytes(const RunState& state, int rank) {
  int64_t size = 0;
  if (rank >= state.optimizer_shards) return size;
  for (const auto& [name, tensor] : state.optimizer) size += static_cast<int64_t>(tensor.nbytes());
  return size;
}

std::string read_small_json(const fs::path& path) {
  return io::read_json_file(path).dump();
}

}  // namespace

void save_run_state(const fs::path& output_dir, const RunState& state,
                    const std::function<void(const fs::path&)>& save_files, comm::Communicator& communicator) {
  const bool is_writer = communicator.rank() == 0;
  const int64_t size_bytes = comm::all_reduce_value(communicator, optimizer_size_bytes(state, communicator.rank())) +
                             static_cast<int64_t>(state.weights_size_bytes);
  std::unique_ptr<io::AtomicDirectory>
      directory;  // on rank 0; deletes the temporary folder where an error leaves this function
  run_agreed(communicator, [&] {
    if (!is_writer) return;
    io::require_free_space(output_dir, static_cast<uint64_t>(size_bytes));
    directory = std::make_unique<io::AtomicDirectory>(output_dir / concat("checkpoint-", state.trainer.global_step));
    fs::create_directory(directory->path() / kStateFolder);
  });
  const fs::path temporary =
      comm::broadcast_bytes(communicator, is_writer ? directory->path().string() : std::string());
  run_agreed(communicator, [&] {
    if (!state.optimizer.empty() && communicator.rank() < state.optimizer_shards)
      write_tensors(temporary / kStateFolder / optimizer_file(communicator.rank(), state.optimizer_shards),
                    state.optimizer);
  });
  save_files(temporary);
  run_agreed(communicator, [&] {
    if (!is_writer) return;
    write_trainer_state(temporary, state.trainer);
    io::write_text_file(temporary / kStateFolder / "position.json", state.position);
    io::write_text_file(temporary / kStateFolder / "random.json", state.random);
    write_manifest(temporary, {state.run, state.trainer.global_step, communicator.size(), state.optimizer_shards});
    directory->commit();
  });
}

RunState load_run_state(const fs::path& checkpoint) {
  RunState state;
  state.run = run_of_checkpoint(checkpoint).value_or(0);
  state.optimizer_shards = num_optimizer_shards(checkpoint);
  state.trainer = read_trainer_state(checkpoint);
  const fs::path folder = checkpoint / kStateFolder;
  state.position = read_small_json(folder / "position.json");
  state.random = read_small_json(folder / "random.json");
  return state;
}

std::vector<zero::StoredState> open_optimizer_state(const fs::path& checkpoint) {
  std::vector<zero::StoredState> state;
  if (!is_resumable(checkpoint)) return state;
  const int num_shards = num_optimizer_shards(checkpoint);
  for (int shard = 0; shard < num_shards; ++shard) {
    const auto file = std::make_shared<const io::SafetensorsFile>(
        io::SafetensorsFile::open(checkpoint / kStateFolder / optimizer_file(shard, num_shards)));
    for (const io::TensorInfo& info : file->tensors())
      state.push_back({info.name, info.shape, to_scalar_type(info.dtype), [file, &info](int64_t first, at::Tensor to) {
                         const int64_t element_size = io::dtype_size(info.dtype);
                         at::Tensor part = at::empty({to.numel()}, to_scalar_type(info.dtype));
                         file->read(info, static_cast<uint64_t>(first * element_size), part.nbytes(), part.data_ptr());
                         to.copy_(part);
                       }});
  }
  return state;
}

}  // namespace dsft::checkpoint
