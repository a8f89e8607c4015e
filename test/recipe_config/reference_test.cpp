#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

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
  if (!field.default_note.empty()) return field.default_note;
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

/// Values of keys that are built, but not with these.
void add_later_values(const config::Fields& fields, const std::string& prefix, std::string& page) {
  for (const config::Field& field : fields.list()) {
    for (const config::LaterValue& later : field.later)
      page += "- `" + prefix + field.name + ": " + later.text + "`: " + later.comes_with + "\n";
    if (field.is_section()) add_later_values(*field.open(), prefix + field.name + ".", page);
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
      "\n## Known, not built yet\n\nEach is a fault that names what it comes with. Values of keys that take "
      "others:\n\n";
  add_later_values(fields, "", page);
  page += "\nKeys, unless their value asks for nothing:\n\n";
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

namespace {

/// "key=value" of everything that a field lists as not built.
void list_later_values(const config::Fields& fields, const std::string& prefix, std::vector<std::string>& settings) {
  for (const config::Field& field : fields.list()) {
    for (const config::LaterValue& later : field.later) settings.push_back(prefix + field.name + "=" + later.text);
    if (field.is_section()) list_later_values(*field.open(), prefix + field.name + ".", settings);
  }
}

}  // namespace

TEST_CASE("Every value that docs/recipe.md calls not built yet is a fault that says so", "[recipe_config]") {
  recipe_config::RecipeConfig config;
  config::Fields fields;
  describe_fields(fields, config);
  std::vector<std::string> settings;
  list_later_values(fields, "", settings);
  for (const char* known :
       {"recipe=vision_language", "training.report_to=mlflow", "training.lr_scheduler_type=reduce_lr_on_plateau",
        "eval.metrics=cer", "data.train=[x.parquet]"}) {
    INFO(known);
    CHECK(std::find(settings.begin(), settings.end(), known) != settings.end());
  }
  const std::string base = "recipe: sft\noutput_dir: r\nmodel: {path: a}\ndata: {train: t.json}\n";
  REQUIRE(recipe_config::read_recipe_text(base, "r.yaml").is_ok());
  for (const std::string& setting : settings) {
    INFO(setting);
    const auto reading = recipe_config::read_recipe_text(base, "r.yaml", {setting});
    REQUIRE(reading.faults.size() == 1);
    CHECK_THAT(reading.faults.front().message, Catch::Matchers::ContainsSubstring("not built yet"));
  }
}
