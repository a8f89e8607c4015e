#include "checkpoint/save_model.h"

#include <algorithm>

#include "base/error.h"
#include "io/atomic_directory.h"
#include "io/file.h"

namespace dsft::checkpoint {

namespace fs = std::filesystem;

namespace {

bool is_weight_file(const std::string& name) {
  const bool is_ours = name.starts_with("model") || name.starts_with("adapter_model");
  return is_ours && (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"));
}

}  // namespace

void save_model(const fs::path& directory, const NamedTensors& parameters, const SaveModelOptions& options) {
  copy_model_files(options.source, directory,
                   {.dtype = options.dtype, .tie_word_embeddings = {}, .chat_template = options.chat_template});
  std::vector<io::TensorInfo> infos;
  for (const auto& [name, tensor] : parameters)
    infos.push_back(describe_tensor(name, tensor.sizes().vec(), options.dtype));
  ShardWriter writer(directory, std::move(infos), options.max_shard_bytes);
  for (const auto& [name, tensor] : parameters) write_tensor(writer.next(), tensor, options.dtype);
  writer.finish();
}

void publish_files(const fs::path& finished, const fs::path& directory) {
  io::sync_tree(finished);
  std::vector<fs::path> names;
  for (const auto& entry : fs::directory_iterator(finished)) names.push_back(entry.path().filename());
  std::stable_partition(names.begin(), names.end(),
                        [](const fs::path& name) { return !is_weight_file(name.string()); });
  std::error_code error;
  for (const fs::path& name : names) {
    if (fs::is_directory(directory / name)) fs::remove_all(directory / name, error);
    fs::rename(finished / name, directory / name, error);
    if (error)
      fail(ErrorKind::kCheckpoint, "Cannot move ", (finished / name).string(), " to ", directory.string(), ": ",
           error.message(), ".");
  }
  std::vector<fs::path> stale;
  for (const auto& entry : fs::directory_iterator(directory)) {
    const fs::path name = entry.path().filename();
    if (is_weight_file(name.string()) && std::find(names.begin(), names.end(), name) == names.end())
      stale.push_back(entry.path());
  }
  for (const fs::path& path : stale) fs::remove(path, error);
  io::sync_directory(directory);
}

}  // namespace dsft::checkpoint
