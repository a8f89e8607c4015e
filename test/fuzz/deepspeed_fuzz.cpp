// A DeepSpeed configuration, and a file of `accelerate config`; a recipe that takes one runs again without it.
#include <vector>

#include "config/json_reader.h"
#include "config/yaml_reader.h"
#include "config/yaml_writer.h"
#include "fuzz/fuzz.h"
#include "recipe_config/accelerate_import.h"
#include "recipe_config/deepspeed_import.h"
#include "recipe_config/recipe_config.h"

namespace {

using namespace dsft;

/// Reads a recipe with the file's own values, which an importer leaves in its tree.
void check_recipe(const config::Node& recipe) {
  const std::string text = config::write_yaml(recipe);
  auto reading = recipe_config::read_recipe_text(text, "recipe.yaml");
  if (!reading.is_ok()) return;
  recipe_config::resolve_defaults(reading.config, false);
  recipe_config::resolve_auto_sizes(reading.config, 64);
  const std::string resolved = recipe_config::to_yaml(reading.config);
  const auto again = recipe_config::read_recipe_text(resolved, "resolved.yaml");
  DSFT_CHECK(again.is_ok(), resolved, again.is_ok() ? "" : again.faults[0].message);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(fuzz::text_of(data, size));
  for (const bool is_json : {true, false}) {
    fuzz::allow_refusal([&] {
      std::vector<config::Fault> faults, warnings;
      config::Node file =
          is_json ? config::read_json(text, "ds.json", faults) : config::read_yaml(text, "a.yaml", faults);
      // nothing beside the input is read
      if (config::Node* plugin = file.find("deepspeed_config")) {
        if (config::Node* name = plugin->find("deepspeed_config_file")) *name = config::make_null();
      }
      config::Node recipe =
          config::read_yaml("recipe: sft\noutput_dir: a\nmodel: {path: m}\ndata: {train: t.jsonl}\n", "r", faults);
      recipe_config::RunSettings run;
      recipe_config::ImportedValues values(recipe, faults, warnings);
      if (is_json) {
        recipe_config::import_deepspeed(file, values, run);
      } else {
        recipe_config::import_accelerate(file, values, run, faults);
      }
      check_recipe(recipe);
    });
  }
  return 0;
}
