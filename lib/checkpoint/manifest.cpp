#include "checkpoint/manifest.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "checkpoint/run_state.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/json.h"

namespace dsft::checkpoint {

namespace fs = std::filesystem;

namespace {

constexpr const char* kFolderPrefix = "checkpoint-";
constexpr int kMostShards = 1'000'000;
constexpr const char* kUnfinishedMark = ".tmp";  // of io::AtomicDirectory

fs::path manifest_path(const fs::path& checkpoint) {
  return checkpoint / kStateFolder / "manifest.json";
}

nlohmann::json read_manifest(const fs::path& checkpoint) {
  const nlohmann::json manifest = io::read_json_file(manifest_path(checkpoint));
  const bool is_whole = manifest.is_object() && manifest.contains("files") && manifest["files"].is_object() &&
                        manifest.contains("optimizer_shards") && manifest["optimizer_shards"].is_number_integer() &&
                        manifest["optimizer_shards"] >= 1 && manifest["optimizer_shards"] <= kMostShards &&
                        manifest.contains("format") && manifest["format"] == 1;
  if (!is_whole)
    fail(ErrorKind::kCheckpoint, manifest_path(checkpoint).string(),
         " is no manifest of a checkpoint that this version of dsft reads.");
  return manifest;
}

std::string path_of_shard(int shard, int num_shards) {
  return concat(kStateFolder, "/", optimizer_file(shard, num_shards));
}

bool has_optimizer(const nlohmann::json& manifest) {
  for (const auto& [name, entry] : manifest["files"].items())
    if (name.starts_with(concat(kStateFolder, "/optimizer-"))) return true;
  return false;
}

// A part of the optimizer that the manifest does not list, where it lists any.
std::optional<std::string> find_missing_shard(const nlohmann::json& manifest) {
  if (!has_optimizer(manifest)) return std::nullopt;
  const int num_shards = manifest["optimizer_shards"].get<int>();
  for (int shard = 0; shard < num_shards; ++shard)
    if (const std::string name = path_of_shard(shard, num_shards); !manifest["files"].contains(name)) return name;
  return std::nullopt;
}

bool is_inside(const std::string& name) {
  const fs::path path(name);
  return !name.empty() && path.is_relative() &&
         std::none_of(path.begin(), path.end(), [](const fs::path& part) { return part == ".."; });
}

std::optional<std::string> find_file_fault(const fs::path& checkpoint, const std::string& name,
                                           const nlohmann::json& entry) {
  if (!is_inside(name) || !entry.is_object() || !entry.contains("size") || !entry.contains("xxh64"))
    return "its manifest is damaged at " + name.substr(0, 200);
  const fs::path path = checkpoint / name;
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return name.substr(0, 200) + " is missing";
  const uint64_t size = fs::file_size(path, error);
  if (error) return concat(name, " cannot be read: ", error.message());
  if (entry["size"] != size) return concat(name, " has ", size, " bytes in place of ", entry["size"].dump());
  if (entry["xxh64"] != io::to_hex(io::xxh64_of_file(path))) return name + " does not have its checksum";
  return std::nullopt;
}

}  // namespace

void write_manifest(const fs::path& checkpoint, const ManifestOrigin& origin) {
  nlohmann::json files = nlohmann::json::object();
  for (const auto& entry : fs::recursive_directory_iterator(checkpoint)) {
    if (!entry.is_regular_file()) continue;
    files[entry.path().lexically_relative(checkpoint).generic_string()] = {
        {"size", entry.file_size()}, {"xxh64", io::to_hex(io::xxh64_of_file(entry.path()))}};
  }
  const nlohmann::json manifest = {{"format", 1},
                                   {"run", origin.run},
                                   {"step", origin.step},
                                   {"num_ranks", origin.num_ranks},
                                   {"optimizer_shards", origin.optimizer_shards},
                                   {"files", files}};
  // a network file system may not show what another rank wrote
  if (const auto missing = find_missing_shard(manifest))
    fail(ErrorKind::kCheckpoint, checkpoint.string(), ": ", *missing, " was written and is not seen by rank 0");
  io::write_text_file(manifest_path(checkpoint), manifest.dump(2) + "\n");
}

std::string optimizer_file(int shard, int num_shards) {
  return concat("optimizer-", shard, "-of-", num_shards, ".safetensors");
}

int num_optimizer_shards(const fs::path& checkpoint) {
  return read_manifest(checkpoint)["optimizer_shards"].get<int>();
}

std::optional<std::string> find_checkpoint_fault(const fs::path& checkpoint) {
  if (!fs::exists(manifest_path(checkpoint))) return "it has no dsft_state/manifest.json: saving was not finished";
  try {
    const nlohmann::json manifest = read_manifest(checkpoint);
    for (const auto& [name, entry] : manifest["files"].items()) {
      if (const auto fault = find_file_fault(checkpoint, name, entry)) return fault;
    }
    if (const auto missing = find_missing_shard(manifest))
      return *missing + " is not in its manifest: saving was not finished";
  } catch (const std::exception& error) {  // also what the file system refuses
    return error.what();
  }
  return std::nullopt;
}

std::optional<int64_t> run_of_checkpoint(const fs::path& checkpoint) {
  try {
    const nlohmann::json manifest = read_manifest(checkpoint);
    // format 1 had no runs at first
    const auto run = manifest.find("run");
    return run != manifest.end() && run->is_number_integer() ? run->get<int64_t>() : 0;
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::optional<int64_t> step_of_checkpoint(const fs::path& path) {
  const std::string name = path.filename().string();
  if (!name.starts_with(kFolderPrefix)) return std::nullopt;
  const char* begin = name.data() + std::string_view(kFolderPrefix).size();
  const char* end = name.data() + name.size();
  int64_t step = 0;
  const auto [last, error] = std::from_chars(begin, end, step);
  return error == std::errc() && last == end && step >= 0 ? std::optional(step) : std::nullopt;
}

std::vector<fs::path> list_checkpoints(const fs::path& output_dir) {
  struct Found {
    std::optional<int64_t> run;
    int64_t step;
    fs::path path;
  };
  std::vector<Found> found;
  int64_t last_run = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(output_dir, error)) {
    const auto step = step_of_checkpoint(entry.path());
    if (!step || !entry.is_directory()) continue;
    found.push_back({run_of_checkpoint(entry.path()), *step, entry.path()});
    last_run = std::max(last_run, found.back().run.value_or(0));
  }
  const auto age = [&](const Found& item) { return std::pair(item.run.value_or(last_run), item.step); };
  std::sort(found.begin(), found.end(), [&](const Found& a, const Found& b) { return age(a) > age(b); });
  std::vector<fs::path> paths;
  for (Found& item : found) paths.push_back(std::move(item.path));
  return paths;
}

bool is_resumable(const fs::path& checkpoint) {
  try {
    return has_optimizer(read_manifest(checkpoint));
  } catch (const std::exception&) {
    return false;
  }
}

FoundCheckpoint find_newest_checkpoint(const fs::path& output_dir) {
  FoundCheckpoint found;
  for (const fs::path& path : list_checkpoints(output_dir)) {
    std::optional<std::string> fault = find_checkpoint_fault(path);
    if (!fault && !is_resumable(path)) {
      fault = "it holds the model alone (save_only_model: true).";
      if (!found.model_alone) found.model_alone = path;
    }
    if (!fault) {
      found.path = path;
      break;
    }
    found.ignored.push_back(concat(path.string(), " is not used: ", *fault));
  }
  return found;
}

int64_t next_run(const fs::path& output_dir) {
  int64_t last = 0;
  for (const fs::path& path : list_checkpoints(output_dir)) last = std::max(last, run_of_checkpoint(path).value_or(0));
  return last + 1;
}

std::vector<std::string> rotate_checkpoints(const fs::path& output_dir, const Rotation& rotation) {
  std::vector<std::string> faults;
  if (rotation.limit < 1) return faults;
  std::vector<fs::path> others;  // newest first
  int64_t num_kept = 1;          // the last
  for (const fs::path& path : list_checkpoints(output_dir)) {
    const auto step = step_of_checkpoint(path);
    if (step == rotation.last_step || run_of_checkpoint(path) != rotation.run) continue;
    if (step == rotation.best_step || step == rotation.last_resumable_step)
      ++num_kept;
    else
      others.push_back(path);
  }
  for (const fs::path& path : others) {
    if (num_kept++ < rotation.limit) continue;
    // by one rename it is no checkpoint any more: a run killed while it deletes leaves nothing half whole
    const fs::path doomed = path.string() + kUnfinishedMark + "-old";
    std::error_code error;
    fs::remove_all(doomed, error);
    if (!error) fs::rename(path, doomed, error);
    if (!error) fs::remove_all(doomed, error);
    if (error) faults.push_back(concat("the old checkpoint ", path.string(), " cannot be deleted: ", error.message()));
  }
  return faults;
}

void remove_unfinished_checkpoints(const fs::path& output_dir) {
  std::vector<fs::path> unfinished;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(output_dir, error)) {
    const std::string name = entry.path().filename().string();
    const size_t mark = name.find(kUnfinishedMark);
    if (mark != std::string::npos && step_of_checkpoint(name.substr(0, mark)) && entry.is_directory(error))
      unfinished.push_back(entry.path());
  }
  for (const fs::path& path : unfinished) fs::remove_all(path, error);
}

}  // namespace dsft::checkpoint
