#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/nearest_name.h"
#include "dsft/built_in_recipes.h"
#include "dsft/command.h"
#include "evaluate/eval_config.h"
#include "rewards/reward_config.h"

namespace dsft::apps {
namespace {

struct RecipesOptions {
  std::string name;
  bool has_metrics = false;
  bool has_rewards = false;
};

/// The first sentence of a recipe's comment, which says what it is for.
std::string purpose_of(std::string_view text) {
  std::string comment;
  while (text.starts_with("#")) {
    const std::string_view line = text.substr(0, text.find('\n'));
    const size_t begin = std::min(line.find_first_not_of("# "), line.size());
    if (!comment.empty()) comment += ' ';
    comment += line.substr(begin);
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
  const size_t end = comment.find(". ");
  return end == std::string::npos ? comment : comment.substr(0, end + 1);
}

/// "sft/smollm2_135m_full": a recipe without its ending, another file as it is called.
std::string short_name(const BuiltInFile& file) {
  return std::string(file.is_recipe() ? file.name.substr(0, file.name.rfind('.')) : file.name);
}

void list_recipes() {
  size_t width = 0;
  for (const BuiltInFile& file : built_in_files())
    if (file.is_recipe()) width = std::max(width, short_name(file).size());
  for (const BuiltInFile& file : built_in_files()) {
    if (!file.is_recipe()) continue;
    const std::string name = short_name(file);
    std::cout << name << std::string(width + 2 - name.size(), ' ') << purpose_of(file.text) << "\n";
  }
  std::cout << "\nFiles that they name:\n";
  for (const BuiltInFile& file : built_in_files())
    if (!file.is_recipe()) std::cout << file.name << "\n";
  std::cout << "\n`dsft recipes NAME` prints one: dsft recipes NAME > recipe.yaml\n";
}

/// Says on stderr where to get the files that a recipe names and that are not here.
void explain_missing_files(const BuiltInFile& recipe) {
  for (const BuiltInFile& file : built_in_files()) {
    const std::filesystem::path path = std::filesystem::path("recipes") / file.name;
    const std::string entry = ": " + path.string();
    if (file.is_recipe() || recipe.text.find(entry) == std::string_view::npos || std::filesystem::exists(path))
      continue;
    std::cerr << "This recipe reads " << path.string() << ", which is not here. To make it:\n  mkdir -p "
              << path.parent_path().string() << " && dsft recipes " << path.filename().string() << " > "
              << path.string() << "\n";
  }
}

void print_file(std::string name) {
  if (name.starts_with("recipes/")) name.erase(0, 8);
  std::vector<std::string> names;
  for (const BuiltInFile& file : built_in_files()) {
    for (const std::string& known : {short_name(file), std::string(file.name)}) {
      if (known == name || known.ends_with("/" + name)) {
        std::cout << file.text;
        explain_missing_files(file);
        return;
      }
      names.push_back(known);
      names.push_back(known.substr(known.rfind('/') + 1));
    }
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
    case evaluate::Metric::kPassAtK:
      return "of a grpo recipe: share of prompts of which one of k completions passes, beside means of the rewards";
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
  if (options.has_rewards) {
    std::cout << rewards::list_built_in_rewards() << "\nA program gives rewards too: docs/rewards.md.\n";
  } else if (options.has_metrics) {
    list_metrics();
  } else if (options.name.empty()) {
    list_recipes();
  } else {
    print_file(options.name);
  }
}

}  // namespace

void add_recipes_command(CLI::App& app, CommandResult&) {
  auto options = std::make_shared<RecipesOptions>();
  CLI::App* command = app.add_subcommand("recipes", "List the ready recipes and their templates, or print one");
  command->add_option("NAME", options->name, "Recipe, chat template, model configuration or reward program to print");
  command->add_flag("--metrics", options->has_metrics, "List what eval.metrics takes");
  command->add_flag("--rewards", options->has_rewards, "List the built-in rewards of GRPO");
  command->footer("Example:\n  dsft recipes smollm2_135m_function_calling > recipe.yaml");
  command->callback([options] { run_recipes(*options); });
}

}  // namespace dsft::apps
