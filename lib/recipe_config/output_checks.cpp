#include "recipe_config/output_checks.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/json.h"

namespace dsft::recipe_config {
namespace {

namespace fs = std::filesystem;

constexpr const char* kStateFolder = "dsft_state";

/// The folder itself, links followed and without a slash at its end; as it stands where the system cannot say.
fs::path real_path(const fs::path& path) {
  std::error_code error;
  const fs::path real = fs::weakly_canonical(fs::absolute(path, error), error);
  if (error) return path;
  return real.has_filename() ? real : real.parent_path();
}

/// Why files cannot be written into a folder that may not exist yet; "" where they can.
std::string find_obstacle(fs::path path) {
  std::error_code error;
  while (!fs::exists(path, error) && path.has_relative_path()) path = path.parent_path();
  if (!fs::is_directory(path, error)) return concat("cannot be written: ", path.string(), " is no folder");
  if (::access(path.c_str(), W_OK | X_OK) != 0)
    return concat("cannot be written: ", path.string(), ": ", std::strerror(errno));
  return "";
}

}  // namespace

std::vector<config::Fault> check_output_dir(const RecipeConfig& config, const config::Written& written,
                                            const fs::path& model_directory) {
  std::vector<config::Fault> faults, warnings;
  config::Section top("", written, faults, warnings);
  const auto& training = config.training;
  const std::string output = training.output_dir.value_or(config.output_dir);
  const std::string key = top.is_written("training.output_dir") ? "training.output_dir" : "output_dir";
  const fs::path real = real_path(output);
  const auto check = [&](const char* source_key, const fs::path& source) {
    const fs::path read = real_path(source);
    if (read == real) {
      top.fault(key, concat("is the folder of ", source_key, " (", source.string(),
                            "), whose weights the run would replace; write another folder"));
    } else if (read.parent_path() == real && read.filename().string().starts_with("checkpoint-")) {
      top.fault(key, concat("holds the checkpoint of ", source_key, " (", source.string(),
                            "), which the run may replace or delete; write another folder, or "
                            "training.resume_from_checkpoint to go on with that run"));
    }
  };
  if (const std::string obstacle = find_obstacle(real); !obstacle.empty()) top.fault(key, obstacle);
  std::error_code error;
  if (fs::exists(real / kStateFolder, error))
    top.fault(key,
              concat("is a checkpoint of a run (it holds ", kStateFolder, "), which this run would overwrite; write ",
                     "another folder, or training.resume_from_checkpoint to go on from it"));
  if (!model_directory.empty()) check("model.path", model_directory);
  if (config.lora && config.lora->adapter) check("lora.adapter", *config.lora->adapter);
  return faults;
}

void check_resume_from(const RecipeConfig& config) {
  const train::ResumeFrom& from = config.training.resume_from_checkpoint;
  if (from.kind != train::ResumeFrom::Kind::kDirectory) return;
  const auto refuse = [&](const std::string& why) {
    fail(ErrorKind::kCheckpoint, "training.resume_from_checkpoint: ", from.directory, " ", why,
         ". Name a folder checkpoint-<step> of a run, or write true for the newest one of output_dir");
  };
  std::error_code error;
  const fs::path state = fs::path(from.directory) / kStateFolder;
  if (!fs::exists(from.directory, error)) refuse("does not exist");
  if (!fs::is_directory(from.directory, error)) refuse("is a file");
  if (!fs::exists(state / "manifest.json", error))
    refuse(concat("is no whole checkpoint: it has no ", kStateFolder, "/manifest.json"));
  if (!io::read_json_file(state / "manifest.json").is_object()) refuse("has a damaged manifest.json");
  const auto random = io::read_json_file(state / "random.json");
  const int64_t seed = config.training.seed.value_or(config.seed);
  if (random.is_object() && random.contains("seed") && random["seed"] != seed)
    fail(ErrorKind::kCheckpoint, from.directory, " was made with seed ", random["seed"].dump(), " and the recipe says ",
         seed, "; the order of rows would change. Write the same seed.");
}

}  // namespace dsft::recipe_config
