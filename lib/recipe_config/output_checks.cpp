#include "recipe_config/output_checks.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace dsft::recipe_config {
namespace {

namespace fs = std::filesystem;

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
  if (!model_directory.empty()) check("model.path", model_directory);
  if (config.lora && config.lora->adapter) check("lora.adapter", *config.lora->adapter);
  return faults;
}

}  // namespace dsft::recipe_config
