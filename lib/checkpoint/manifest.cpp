#include "checkpoint/manifest.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/run_state.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/json.h"

namespace dsft::checkpoint {

namespace fs = std::filesystem;

namespace {

constexpr const char* kFolderPrefix = "checkpoint-";

fs::path manifest_path(const fs::path& checkpoint) {
  return checkpoint / kStateFolder / "manifest.json";
}

/// The step in a folder's name "checkpoint-<step>", or nothing.
std::optional<int64_t> step_of(const fs::path& path) {
  const std::string name = path.filename().string();
  if (!name.starts_with(kFolderPrefix)) return std::nullopt;
  const char* begin = name.data() + std::string_view(kFolderPrefix).size();
  const char* end = name.data() + name.size();
  int64_t step = 0;
  const auto [last, error] = std::from_chars(begin, end, step);
  return error == std::errc() && last == end && step >= 0 ? std::optional(step) : std::nullopt;
}

nlohmann::json read_manifest(const fs::path& checkpoint) {
  const nlohmann::json manifest = io::read_json_file(manifest_path(checkpoint));
  const bool is_whole = manifest.is_object() && manifest.contains("files") && manifest["files"].is_object() &&
                        manifest.contains("num_ranks") && manifest["num_ranks"].is_number_integer() &&
                        manifest.contains("format") && manifest["format"] == 1;
  if (!is_whole)
    fail(ErrorKind::kCheckpoint, manifest_path(checkpoint).string(),
         " is no manifest of a checkpoint that this version of dsft reads.");
  return manifest;
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

void write_manifest(const fs::path& checkpoint, int64_t step, int num_ranks) {
  nlohmann::json files = nlohmann::json::object();
  for (const auto& entry : fs::recursive_directory_iterator(checkpoint)) {
    if (!entry.is_regular_file()) continue;
    files[entry.path().lexically_relative(checkpoint).generic_string()] = {
        {"size", entry.file_size()}, {"xxh64", io::to_hex(io::xxh64_of_file(entry.path()))}};
  }
  const nlohmann::json manifest = {{"format", 1}, {"step", step}, {"num_ranks", num_ranks}, {"files", files}};
  io::write_text_file(manifest_path(checkpoint), manifest.dump(2) + "\n");
}

int num_saved_ranks(const fs::path& checkpoint) {
  return read_manifest(checkpoint)["num_ranks"].get<int>();
}

std::optional<std::string> find_checkpoint_fault(const fs::path& checkpoint) {
  if (!fs::exists(manifest_path(checkpoint))) return "it has no dsft_state/manifest.json: saving was not finished";
  try {
    const nlohmann::json manifest = read_manifest(checkpoint);
    for (const auto& [name, entry] : manifest["files"].items()) {
      if (const auto fault = find_file_fault(checkpoint, name, entry)) return fault;
    }
  } catch (const Error& error) {
    return error.message();
  }
  return std::nullopt;
}

std::vector<fs::path> list_checkpoints(const fs::path& output_dir) {
  std::vector<std::pair<int64_t, fs::path>> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(output_dir, error)) {
    const auto step = step_of(entry.path());
    if (step && entry.is_directory()) found.emplace_back(*step, entry.path());
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<fs::path> paths;
  for (auto& [step, path] : found) paths.push_back(std::move(path));
  return paths;
}

FoundCheckpoint find_newest_checkpoint(const fs::path& output_dir) {
  FoundCheckpoint found;
  for (const fs::path& path : list_checkpoints(output_dir)) {
    const auto fault = find_checkpoint_fault(path);
    if (!fault) {
      found.path = path;
      break;
    }
    found.ignored.push_back(concat(path.string(), " is not used: ", *fault, "."));
  }
  return found;
}

void rotate_checkpoints(const fs::path& output_dir, int64_t limit, std::optional<int64_t> best_step) {
  if (limit < 1) return;
  const std::vector<fs::path> paths = list_checkpoints(output_dir);
  int64_t kept = 0;
  for (const fs::path& path : paths) kept += best_step && step_of(path) == best_step ? 1 : 0;
  for (size_t i = 0; i < paths.size(); ++i) {
    if (best_step && step_of(paths[i]) == best_step) continue;
    if (i == 0 || kept < limit) {
      ++kept;
      continue;
    }
    std::error_code error;
    fs::remove_all(paths[i], error);
    if (error)
      fail(ErrorKind::kCheckpoint, "Cannot delete the old checkpoint ", paths[i].string(), ": ", error.message(), ".");
  }
}

}  // namespace dsft::checkpoint
