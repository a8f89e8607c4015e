// The GRPO recipes that ship: they measure what they train, and their prompts ask for what they reward.
#include <algorithm>
#include <regex>

#include "catch_amalgamated.hpp"
#include "recipe_config/recipe_config.h"
#include "support/temp_dir.h"
#include "text/chat_template.h"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<recipe_config::RecipeConfig> shipped_recipes() {
  const test::WorkingDirectory at_root(DSFT_SOURCE_DIR);
  std::vector<recipe_config::RecipeConfig> recipes;
  for (const auto& entry : std::filesystem::directory_iterator("recipes/grpo"))
    recipes.push_back(recipe_config::read_recipe(entry.path()).config);
  return recipes;
}

/// What a policy reads of a question.
std::string prompt_of(const recipe_config::RecipeConfig& recipe) {
  const test::WorkingDirectory at_root(DSFT_SOURCE_DIR);
  const auto chat_template = text::ChatTemplate::load("", recipe.data.chat_template.value(), /*has_tools=*/false);
  text::ChatInput input;
  input.messages = {{{"role", "user"}, {"content", "2 + 2?"}}};
  input.add_generation_prompt = true;
  input.kwargs = text::Json::parse(recipe.data.chat_template_kwargs);
  return chat_template.value().render(input, text::SpecialTokenMap{}).text;
}

}  // namespace

TEST_CASE("shipped GRPO recipes evaluate before, during and after training", "[recipe_config]") {
  int num_recipes = 0;
  for (const recipe_config::RecipeConfig& recipe : shipped_recipes()) {
    INFO(recipe.output_dir);
    ++num_recipes;
    CHECK(recipe.training.eval_on_start);
    CHECK(recipe.training.eval_strategy != train::EvalStrategy::kNo);
    CHECK_FALSE(recipe.data.eval.empty());
  }
  CHECK(num_recipes == 6);
}

TEST_CASE("the prompts of shipped GRPO recipes ask for the tags and the ends that these look for", "[recipe_config]") {
  int num_formats = 0, num_ends = 0;
  for (const recipe_config::RecipeConfig& recipe : shipped_recipes()) {
    INFO(recipe.output_dir);
    for (const rewards::RewardConfig& reward : recipe.grpo->judged_by.rewards) {
      const auto* built_in = std::get_if<rewards::BuiltInConfig>(&reward.function);
      const auto* format = built_in ? std::get_if<rewards::FormatConfig>(built_in) : nullptr;
      if (!format) continue;
      ++num_formats;
      const std::string prompt = prompt_of(recipe);
      if (format->regex) {
        CHECK(std::regex_search(prompt, std::regex(*format->regex)));  // it shows an answer of that form
      } else {
        for (const std::string& tag : format->tags)
          CHECK_THAT(prompt, ContainsSubstring("<" + tag + ">") && ContainsSubstring("</" + tag + ">"));
      }
      CHECK_THAT(prompt, ContainsSubstring("2 + 2?<|im_end|>\n<|im_start|>assistant\n"));
    }
    for (const std::string& end : recipe.grpo->stop_strings) {
      if (end.find_first_not_of(" \n") == std::string::npos) continue;
      for (const rl::AgentConfig& agent : recipe.grpo->ensemble.agents) {
        ++num_ends;
        // nothing is said behind it
        CHECK_THAT(agent.system_prompt, Catch::Matchers::EndsWith("and end with " + end + "."));
        CHECK(agent.system_prompt.find("\\boxed{}") < agent.system_prompt.find(end));
      }
    }
  }
  CHECK(num_formats == 3);
  CHECK(num_ends == 3);
}
