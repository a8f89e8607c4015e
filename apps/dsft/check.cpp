#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "dsft/build_facts.h"
#include "dsft/command.h"
#include "dsft/gpu_list.h"
#include "options/recipe_arguments.h"
#include "recipe_config/recipe_config.h"

namespace dsft::apps {
namespace {

using Json = nlohmann::ordered_json;

struct CheckOptions {
  RecipeArguments recipe;
  bool is_config_only = false;
  bool is_json = false;
};

/// Whether a run on this machine would compute on CUDA.
bool has_cuda() {
  return std::string(DSFT_BUILD_CUDA) == "TRUE" && !list_gpus().gpus.empty();
}

Json to_json(const std::vector<config::Fault>& faults) {
  Json list = Json::array();
  for (const config::Fault& fault : faults) {
    list.push_back({{"file", fault.position.file},
                    {"line", fault.position.line},
                    {"column", fault.position.column},
                    {"key", fault.key},
                    {"message", fault.message}});
  }
  return list;
}

void print_json(const recipe_config::RecipeReading& reading) {
  Json document;
  document["ok"] = reading.is_ok();
  document["faults"] = to_json(reading.faults);
  document["warnings"] = to_json(reading.warnings);
  document["recipe"] = reading.is_ok() ? Json::parse(recipe_config::to_json(reading.config)) : Json();
  document["plan"] = Json();
  std::cout << document.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
}

int run_check(const CheckOptions& options) {
  recipe_config::RecipeReading reading = recipe_config::read_recipe(options.recipe.recipe, options.recipe.overrides);
  if (reading.is_ok()) recipe_config::resolve_defaults(reading.config, has_cuda());
  if (options.is_json) {
    print_json(reading);
    return reading.is_ok() ? 0 : static_cast<int>(ErrorKind::kUsage);
  }
  for (const config::Fault& warning : reading.warnings) std::cerr << "warning: " << config::to_string(warning) << "\n";
  config::throw_faults(reading.faults);
  std::cout << recipe_config::to_yaml(reading.config);
  return 0;
}

}  // namespace

void add_check_command(CLI::App& app, CommandResult& result) {
  auto options = std::make_shared<CheckOptions>();
  CLI::App* command = app.add_subcommand("check", "Say everything that is wrong before computing");
  add_recipe_arguments(*command, options->recipe);
  command->add_flag("--config-only", options->is_config_only, "Look at the recipe alone, at no model or data file");
  command->add_flag("--json", options->is_json, "One JSON object on stdout: {ok, faults, warnings, recipe, plan}");
  command->footer("Example:\n  dsft check recipe.yaml training.learning_rate=1e-4");
  command->callback([options, &result] { result.exit_code = run_check(*options); });
}

}  // namespace dsft::apps
