// Recipes that name a DeepSpeed file, and what reading them says.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "recipe_config/recipe_config.h"
#include "support/temp_dir.h"

namespace dsft::test {

inline constexpr const char* kRecipe = "recipe: sft\noutput_dir: r\nmodel: {path: a}\ndata: {train: t.json}\n";

/// A recipe beside a DeepSpeed file "ds.json".
inline recipe_config::RecipeReading read_with(const std::string& file, const std::string& addition = "",
                                              const std::vector<std::string>& overrides = {}) {
  const TempDir folder;
  const std::string path = folder.write("ds.json", file).string();
  recipe_config::RecipeReading reading =
      recipe_config::read_recipe_text(concat(kRecipe, "deepspeed: ", path, "\n", addition), "r.yaml", overrides);
  // the folder's name is another each time
  for (auto* list : {&reading.faults, &reading.warnings}) {
    for (config::Fault& fault : *list) {
      if (fault.position.file == path) fault.position.file = "ds.json";
      for (size_t at = 0; (at = fault.message.find(path)) != std::string::npos;)
        fault.message.replace(at, path.size(), "ds.json");
    }
  }
  return reading;
}

inline std::string lines_of(const std::vector<config::Fault>& faults) {
  std::string all;
  for (const config::Fault& fault : faults) all += to_string(fault) + "\n";
  return all;
}

inline std::string file_faults(const std::string& file, const std::string& addition = "") {
  return lines_of(read_with(file, addition).faults);
}

inline std::string file_warnings(const std::string& file, const std::string& addition = "") {
  return lines_of(read_with(file, addition).warnings);
}

/// A recipe without faults, resolved.
inline recipe_config::RecipeConfig resolved(const std::string& file, const std::string& addition = "") {
  recipe_config::RecipeReading reading = read_with(file, addition);
  INFO(lines_of(reading.faults));
  REQUIRE(reading.is_ok());
  recipe_config::resolve_defaults(reading.config, true);
  return reading.config;
}

inline void check_file_fault(const std::string& file, const std::string& expected, const std::string& addition = "") {
  CHECK_THAT(file_faults(file, addition), Catch::Matchers::ContainsSubstring(expected));
}

inline void check_file_warning(const std::string& file, const std::string& expected, const std::string& addition = "") {
  const recipe_config::RecipeReading reading = read_with(file, addition);
  CHECK(lines_of(reading.faults) == "");
  CHECK_THAT(lines_of(reading.warnings), Catch::Matchers::ContainsSubstring(expected));
}

}  // namespace dsft::test
