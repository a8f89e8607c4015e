#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "catch_amalgamated.hpp"
#include "config/fields.h"
#include "config/yaml_writer.h"
#include "recipe_config/recipe_config.h"

using namespace dsft;

namespace {

std::string cell(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, "\\");
  return text;
}

std::string default_text(const config::Field& field) {
  if (field.is_required) return "required";
  const std::string text = config::write_yaml(field.write());
  return "`" + text.substr(0, text.size() - 1) + "`";
}

void add_rows(const config::Fields& fields, const std::string& prefix, std::string& page) {
  for (const config::Field& field : fields.list()) {
    if (field.role != config::Field::Role::kValue) continue;
    const std::string values = field.kind + (field.range.empty() ? "" : ", " + field.range);
    page += "| `" + prefix + field.name + "` | " + cell(values) + " | " + cell(default_text(field)) + " | " +
            cell(field.help) + " |\n";
  }
  for (const config::Field& field : fields.list()) {
    if (field.is_section()) add_rows(*field.open(), prefix + field.name + ".", page);
  }
}

/// Keys that are not values: not built, refused, without effect.
void add_others(const config::Fields& fields, const std::string& prefix, config::Field::Role role, std::string& page) {
  for (const config::Field& field : fields.list()) {
    if (field.role == role) page += "- `" + prefix + field.name + "`: " + field.note + "\n";
    if (field.is_section()) add_others(*field.open(), prefix + field.name + ".", role, page);
  }
}

std::string reference_page() {
  recipe_config::RecipeConfig config;
  config::Fields fields;
  describe_fields(fields, config);
  std::string page =
      "# The recipe: every key\n\n"
      "Made from the fields that the code declares (`describe_fields` of each section): edit those, then run the test "
      "`recipe_config` with\n"
      "`DSFT_UPDATE_DOCS=1`. `null` in the default column means that the value follows from others, as the last column "
      "says.\n\n[data.md](data.md) explains rows and files. A leading `~/` of a path becomes `HOME`; other paths are "
      "relative to the working directory.\n\n"
      "| key | values | default | meaning |\n|---|---|---|---|\n";
  add_rows(fields, "", page);
  page +=
      "\n## Known, not built yet\n\nEach is a fault that names what it comes with, unless its value asks for "
      "nothing.\n\n";
  add_others(fields, "", config::Field::Role::kLater, page);
  page += "\n## Refused by name\n\n";
  add_others(fields, "", config::Field::Role::kRefused, page);
  page += "\n## Accepted without effect\n\nA script's keyword arguments may stay; each is named in a warning.\n\n";
  add_others(fields, "", config::Field::Role::kNoEffect, page);
  return page;
}

}  // namespace

TEST_CASE("docs/recipe.md lists every key as the code declares it", "[recipe_config]") {
  const std::string path = DSFT_SOURCE_DIR "/docs/recipe.md";
  const std::string page = reference_page();
  if (std::getenv("DSFT_UPDATE_DOCS")) std::ofstream(path) << page;
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  CHECK(text.str() == page);
}
