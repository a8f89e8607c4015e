// A recipe; one that is accepted runs again from its resolved.yaml.
#include "fuzz/fuzz.h"
#include "recipe_config/recipe_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace dsft;
  fuzz::allow_refusal([&] {
    auto reading = recipe_config::read_recipe_text(std::string(fuzz::text_of(data, size)), "recipe.yaml");
    if (!reading.is_ok()) return;
    recipe_config::resolve_defaults(reading.config, false);
    recipe_config::to_json(reading.config);
    const std::string resolved = recipe_config::to_yaml(reading.config);
    const auto again = recipe_config::read_recipe_text(resolved, "resolved.yaml");
    DSFT_CHECK(again.is_ok(), resolved, again.is_ok() ? "" : again.faults[0].message);
    DSFT_CHECK(recipe_config::to_yaml(again.config) == resolved, resolved);
  });
  return 0;
}
