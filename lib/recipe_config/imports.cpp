#include "recipe_config/imports.h"

#include <optional>
#include <utility>

#include "base/error.h"
#include "recipe_config/accelerate_import.h"
#include "recipe_config/deepspeed_import.h"
#include "recipe_config/imported_file.h"
#include "recipe_config/imported_values.h"

namespace dsft::recipe_config {
namespace {

using config::Entry;
using config::Node;

/// Takes an entry out of a map; null counts as not written.
std::optional<Entry> take_entry(Node* map, std::string_view key) {
  if (map == nullptr) return std::nullopt;
  Entry* const found = map->find_entry(key);
  if (found == nullptr) return std::nullopt;
  Entry entry = std::move(*found);
  map->entries.erase(map->entries.begin() + (found - map->entries.data()));
  if (entry.value.is_null()) return std::nullopt;
  return entry;
}

/// What the recipe names by a key: the file, or the map that stands there.
std::optional<Node> read_named(const Entry& entry, const std::string& key, const char* kind,
                               std::vector<config::Fault>& faults) {
  if (entry.value.is_map()) return entry.value;
  if (!entry.value.is_scalar() || entry.value.text.empty()) {
    faults.push_back({entry.key_position, key, concat("needs a ", kind, ", not ", config::describe(entry.value))});
    return std::nullopt;
  }
  // transformers writes and reads its own JSON; Accelerate tells its two forms apart by their ending
  const bool is_json = key != "accelerate" || entry.value.text.ends_with(".json");
  return read_imported_file(entry.value.text, entry.key_position, key, is_json, faults);
}

}  // namespace

void apply_imports(Node& recipe, RunSettings& run, std::vector<config::Fault>& faults,
                   std::vector<config::Fault>& warnings) {
  std::optional<Entry> deepspeed = take_entry(&recipe, "deepspeed");
  std::string deepspeed_key = "deepspeed";
  if (std::optional<Entry> inner = take_entry(recipe.find("training"), "deepspeed")) {
    const bool is_same = deepspeed && deepspeed->value.is_scalar() && deepspeed->value.text == inner->value.text;
    if (deepspeed && !is_same) {
      faults.push_back({inner->key_position, "training.deepspeed",
                        concat("contradicts `deepspeed` at ", config::to_string(deepspeed->key_position),
                               ": a run has one DeepSpeed configuration; remove one of them")});
    } else if (!deepspeed) {
      deepspeed = std::move(inner);
      deepspeed_key = "training.deepspeed";
    }
  }
  const std::optional<Entry> accelerate = take_entry(&recipe, "accelerate");
  ImportedValues values(recipe, faults, warnings);
  if (deepspeed) {
    const auto file = read_named(*deepspeed, deepspeed_key, "DeepSpeed JSON file", faults);
    if (file) import_deepspeed(*file, values, run);
  }
  if (accelerate) {
    const auto file = read_named(*accelerate, "accelerate", "YAML file of `accelerate config`", faults);
    if (file) import_accelerate(*file, values, run, faults);
  }
}

}  // namespace dsft::recipe_config
