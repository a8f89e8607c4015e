#include "checkpoint/save_model.h"

#include <algorithm>
#include <regex>
#include <set>

#include "base/error.h"
#include "checkpoint/sharded_model.h"
#include "comm/single_process_communicator.h"
#include "io/atomic_directory.h"
#include "io/file.h"

namespace dsft::checkpoint {

namespace fs = std::filesystem;

namespace {

constexpr const char* kIndexName = "model.safetensors.index.json";

bool is_weight_file(const std::string& name) {
  static const std::regex kNames(
      R"((adapter_)?model\.safetensors|model-\d{5}-of-\d{5}\.safetensors|model\.safetensors\.index\.json|)"
      R"(sharded_weights-\d+-of-\d+\.safetensors|sharded_weights\.json)");
  return std::regex_match(name, kNames);
}

// What names the files that make a model up.
bool is_index(const fs::path& name) {
  return name == kIndexName || name == kShardedWeightsIndex;
}

// Other files, then weights, then the index that names shards.
int publishing_order(const fs::path& name) {
  return is_index(name) ? 2 : is_weight_file(name.string()) ? 1 : 0;
}

void move_file(const fs::path& from, const fs::path& to) {
  std::error_code error;
  if (fs::is_directory(to, error)) fs::remove_all(to, error);
  fs::rename(from, to, error);
  if (error)
    fail(ErrorKind::kCheckpoint, "Cannot move ", from.string(), " to ", to.string(), ": ", error.message(), ".");
}

// Files that decide what a loader takes a folder for: those of an earlier run would speak for this one's weights.
bool is_deciding_file(const std::string& name) {
  static const std::set<std::string> kNames = {"config.json",         "generation_config.json",
                                               "adapter_config.json", "chat_template.jinja",
                                               "chat_template.json",  "additional_chat_templates"};
  return is_weight_file(name) || kNames.contains(name);
}

void remove_stale(const fs::path& directory, const std::vector<fs::path>& names) {
  std::vector<fs::path> stale;
  for (const auto& entry : fs::directory_iterator(directory)) {
    const fs::path name = entry.path().filename();
    if (is_deciding_file(name.string()) && std::find(names.begin(), names.end(), name) == names.end())
      stale.push_back(entry.path());
  }
  std::error_code ignored;
  for (const fs::path& path : stale) fs::remove_all(path, ignored);
}

}  // namespace

void save_model(const fs::path& directory, const NamedTensors& parameters, const SaveModelOptions& options,
                WritingRanks& ranks) {
  std::optional<ShardWriter> writer;  // of the rank that writes
  ranks.write([&] {
    copy_model_files(options.source, directory,
                     {.dtype = options.dtype, .tie_word_embeddings = {}, .chat_template = options.chat_template});
    std::vector<io::TensorInfo> infos;
    for (const auto& [name, tensor] : parameters)
      infos.push_back(describe_tensor(name, tensor.sizes().vec(), options.dtype));
    writer.emplace(directory, std::move(infos), options.max_shard_bytes);
  });
  ranks.write_each(parameters, [&](const at::Tensor& tensor) { write_tensor(writer->next(), tensor, options.dtype); });
  ranks.write([&] { writer->finish(); });
}

void save_model(const fs::path& directory, const NamedTensors& parameters, const SaveModelOptions& options) {
  const auto alone = comm::make_single_process_communicator();
  WritingRanks ranks(*alone, /*shards=*/nullptr);
  save_model(directory, parameters, options, ranks);
}

void publish_files(const fs::path& finished, const fs::path& directory) {
  io::sync_tree(finished);
  std::vector<fs::path> names;
  for (const auto& entry : fs::directory_iterator(finished)) names.push_back(entry.path().filename());
  std::stable_sort(names.begin(), names.end(),
                   [](const fs::path& a, const fs::path& b) { return publishing_order(a) < publishing_order(b); });
  std::error_code error;
  const bool had_index = fs::remove(directory / kIndexName, error);
  if (fs::remove(directory / kShardedWeightsIndex, error) || had_index) io::sync_directory(directory);
  for (const fs::path& name : names) {
    if (is_index(name)) {
      remove_stale(directory, names);  // a model.safetensors would be read in place of the index
      io::sync_directory(directory);
    }
    move_file(finished / name, directory / name);
  }
  remove_stale(directory, names);
  io::sync_directory(directory);
}

}  // namespace dsft::checkpoint
