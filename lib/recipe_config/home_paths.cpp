#include "recipe_config/home_paths.h"

#include <cstdlib>

namespace dsft::recipe_config {

void expand_home(std::string& path) {
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') return;
  if (path.starts_with("~/")) path.replace(0, 1, home);
}

void expand_home(RecipeConfig& config) {
  const auto expand = [](std::string& path) { expand_home(path); };
  const auto expand_written = [&](std::optional<std::string>& path) {
    if (path) expand(*path);
  };
  expand(config.output_dir);
  expand(config.model.path);
  if (config.lora) expand_written(config.lora->adapter);
  for (auto* files : {&config.data.train, &config.data.eval}) {
    for (data::DataFile& file : *files) expand(file.path);
  }
  expand_written(config.data.chat_template);
  expand_written(config.training.output_dir);
  expand(config.training.resume_from_checkpoint.directory);
}

}  // namespace dsft::recipe_config
