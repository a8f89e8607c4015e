#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/nearest_name.h"
#include "dsft/built_in_recipes.h"
#include "dsft/command.h"
#include "evaluate/eval_config.h"

namespace dsft::apps {
namespace {

struct RecipesOptions {
  std::string name;
  bool has_metrics = false;
  bool has_rewards = false;
};

/// The first comment line of a recipe, which says what it is for.
std::string purpose_of(std::string_view text) {
  if (!text.starts_with("#")) return "";
  const size_t begin = text.find_first_not_of("# ");
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find('\n', begin) - begin));
}

void list_recipes() {
  size_t width = 0;
  for (const BuiltInRecipe& recipe : built_in_recipes()) width = std::max(width, recipe.name.size());
  for (const BuiltInRecipe& recipe : built_in_recipes()) {
    std::cout << recipe.name << std::string(width + 2 - recipe.name.size(), ' ') << purpose_of(recipe.text) << "\n";
  }
  std::cout << "\n`dsft recipes NAME` prints one: dsft recipes NAME > recipe.yaml\n";
}

void print_recipe(std::string name) {
  if (name.ends_with(".yaml")) name.resize(name.size() - 5);
  if (name.starts_with("recipes/")) name.erase(0, 8);
  std::vector<std::string> names;
  for (const BuiltInRecipe& recipe : built_in_recipes()) {
    const std::string full(recipe.name);
    if (full == name || full.ends_with("/" + name)) {
      std::cout << recipe.text;
      return;
    }
    names.push_back(full);
    names.push_back(full.substr(full.rfind('/') + 1));
  }
  const std::string nearest = nearest_name(name, names);
  fail(ErrorKind::kUsage, "there is no recipe `", name, "`",
       nearest.empty() ? "; `dsft recipes` lists them" : concat("; did you mean `", nearest, "`?"));
}

std::string_view purpose_of(evaluate::Metric metric) {
  switch (metric) {
    case evaluate::Metric::kLoss:
      return "mean negative log-likelihood of the supervised tokens; eval_perplexity is its exponential";
    case evaluate::Metric::kExactMatch:
      return "share of rows whose generated last answer equals the row's, text for text";
    case evaluate::Metric::kToolCall:
      return "share of rows whose generated calls equal the row's in name and arguments, as JSON";
  }
  return "";
}

void list_metrics() {
  for (const auto& word : words_of(evaluate::Metric{})) {
    std::cout << word.text << std::string(16 - word.text.size(), ' ');
    if (word.comes_with.empty()) {
      std::cout << purpose_of(word.value) << "\n";
    } else {
      std::cout << "(not built yet: comes with " << word.comes_with << ")\n";
    }
  }
}

void run_recipes(const RecipesOptions& options) {
  if (options.has_rewards) fail(ErrorKind::kUsage, "--rewards is not built yet: it comes with the GRPO recipe");
  if (options.has_metrics) {
    list_metrics();
  } else if (options.name.empty()) {
    list_recipes();
  } else {
    print_recipe(options.name);
  }
}

}  // namespace

void add_recipes_command(CLI::App& app, CommandResult&) {
  auto options = std::make_shared<RecipesOptions>();
  CLI::App* command = app.add_subcommand("recipes", "List the ready recipes, or print one");
  command->add_option("NAME", options->name, "Recipe to print");
  command->add_flag("--metrics", options->has_metrics, "List what eval.metrics takes");
  command->add_flag("--rewards", options->has_rewards, "List the built-in rewards of GRPO");
  command->footer("Example:\n  dsft recipes smollm2_135m_function_calling > recipe.yaml");
  command->callback([options] { run_recipes(*options); });
}

}  // namespace dsft::apps
