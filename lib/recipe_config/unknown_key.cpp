#include "recipe_config/unknown_key.h"

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "base/error.h"
#include "base/nearest_name.h"
#include "recipe_config/other_spellings.h"
#include "recipe_config/recipe_config.h"

namespace dsft::recipe_config {
namespace {

/// Full keys of the whole recipe.
struct Paths {
  std::vector<std::string> ours;              ///< those included that are not built yet
  std::map<std::string, std::string> others;  ///< known without being ours: why they have no effect or are refused
};

void collect_paths(const config::Fields& fields, const std::string& prefix, Paths& paths) {
  for (const config::Field& field : fields.list()) {
    const bool is_ours = field.role == config::Field::Role::kValue || field.role == config::Field::Role::kLater;
    if (field.is_section())
      collect_paths(*field.open(), prefix + field.name + ".", paths);
    else if (is_ours)
      paths.ours.push_back(prefix + field.name);
    else
      paths.others[prefix + field.name] = field.note;
  }
}

/// Made once: describing a recipe takes far longer than looking for a name in it.
const Paths& all_paths() {
  static const Paths paths = [] {
    RecipeConfig config;
    config::Fields fields;
    describe_fields(fields, config);
    Paths found;
    collect_paths(fields, "", found);
    return found;
  }();
  return paths;
}

std::string leaf_of(const std::string& path) {
  return path.substr(path.rfind('.') + 1);
}

}  // namespace

std::vector<std::string> find_recipe_keys(std::string_view leaf) {
  std::vector<std::string> found;
  for (const std::string& candidate : all_paths().ours) {
    if (leaf_of(candidate) == leaf && !candidate.starts_with("zero.offload")) found.push_back(candidate);
  }
  return found;
}

std::string explain_unknown_key(const std::string& path, const config::Fields& section) {
  const std::string key = leaf_of(path);
  const std::vector<std::string> names = section.names();
  std::vector<std::string> elsewhere;
  for (const std::string& found : find_recipe_keys(key)) elsewhere.push_back("`" + found + "`");
  if (!elsewhere.empty()) return concat("does not stand here: write ", join_words(elsewhere, " or "));
  if (const auto other = find_other_spelling(path)) {
    return concat("is ", other->tool, "'s spelling: write `", other->ours, "`");
  }
  for (const auto& [other, note] : all_paths().others)
    if (leaf_of(other) == key) return concat("is not for dsft, here or as `", other, "`: ", note);
  const std::string nearest = nearest_name(key, names);
  if (!nearest.empty()) return concat("is unknown; did you mean `", nearest, "`?");
  const std::vector<std::string>& everywhere = all_paths().ours;
  std::vector<std::string> leaves;
  std::transform(everywhere.begin(), everywhere.end(), std::back_inserter(leaves), leaf_of);
  const std::string far = nearest_name(key, leaves);
  if (!far.empty()) {
    const auto index = static_cast<size_t>(std::find(leaves.begin(), leaves.end(), far) - leaves.begin());
    return concat("is unknown; did you mean `", everywhere[index], "`?");
  }
  return concat("is unknown; keys here are ", join_words(names));
}

}  // namespace dsft::recipe_config
