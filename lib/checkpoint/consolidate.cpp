#include "checkpoint/consolidate.h"

#include <torch/types.h>

#include "base/error.h"
#include "checkpoint/model_files.h"
#include "checkpoint/run_state.h"
#include "checkpoint/sharded_model.h"
#include "io/atomic_directory.h"

namespace dsft::checkpoint {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail_without_shards(const fs::path& directory) {
  std::string what = concat("no ", kShardedWeightsIndex,
                            ", which a run at ZeRO stage 3 with stage3_gather_16bit_weights_on_model_save: false "
                            "writes last");
  for (const fs::path& checkpoint : list_checkpoints(directory)) {
    if (!is_sharded_model(checkpoint)) continue;
    what += ". Its newest checkpoint with sharded weights is " + checkpoint.string();
    break;
  }
  for (const char* whole : {"model.safetensors", "model.safetensors.index.json"})
    if (fs::exists(directory / whole)) what = concat(whole, ": its weights are whole, use it as it is");
  if (fs::exists(directory / "adapter_model.safetensors"))
    what = "an adapter, which is always written whole; `dsft merge-lora` makes a model of it and its base";
  fail(ErrorKind::kCheckpoint, directory.string(), " holds ", what, ".");
}

void require_input(const ConsolidateRequest& request) {
  const fs::path& directory = request.checkpoint;
  std::error_code error;
  if (!fs::is_directory(directory, error))
    fail(ErrorKind::kCheckpoint, directory.string(),
         " is no folder. Name a checkpoint, or the output_dir, of a run that saved sharded weights.");
  if (!is_sharded_model(directory)) fail_without_shards(directory);
}

at::Tensor read_whole(const StoredTensor& stored) {
  at::Tensor tensor = at::empty(stored.shape, to_scalar_type(stored.dtype));
  auto* bytes = static_cast<uint8_t*>(tensor.data_ptr());
  for (const StoredRun& run : stored.runs) run.file->read(*run.info, bytes + run.first * io::dtype_size(stored.dtype));
  return tensor;
}

uint64_t num_bytes(const StoredWeights& weights) {
  uint64_t size = 0;
  for (const io::SafetensorsFile& file : weights.files())
    for (const io::TensorInfo& info : file.tensors()) size += info.end - info.begin;
  return size;
}

}  // namespace

void consolidate(const ConsolidateRequest& request, const Logger& logger) {
  require_input(request);
  require_new_output(request.output);
  const ShardedIndex index = read_sharded_index(request.checkpoint);
  const StoredWeights weights = open_shards(index);
  verify_shards(index);
  std::vector<io::TensorInfo> infos;
  for (const auto& [name, shape] : index.tensors)
    infos.push_back(describe_tensor(name, shape, to_scalar_type(index.dtype)));
  io::AtomicDirectory output(request.output);
  io::require_free_space(output.path(), num_bytes(weights));
  copy_model_files(request.checkpoint, output.path(), {});
  ShardWriter writer(output.path(), std::move(infos), request.max_shard_bytes);
  for (const auto& [name, shape] : index.tensors) {
    const at::Tensor tensor = read_whole(*weights.find(name));
    write_tensor(writer.next(), tensor, tensor.scalar_type());
  }
  writer.finish();
  output.commit();
  logger.info("wrote ", index.tensors.size(), " tensors from ", weights.files().size(), " shards to ",
              request.output.string());
}

}  // namespace dsft::checkpoint
