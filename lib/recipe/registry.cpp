#include "recipe/registry.h"

#include <array>

#include "base/error.h"
#include "recipe/grpo.h"
#include "recipe/sft.h"

namespace dsft::recipe {
namespace {

struct Row {
  recipe_config::RecipeKind kind;
  train::Job (*build)(const recipe_config::RecipeConfig& config, train::RunContext& context);
};

constexpr std::array<Row, 2> kRecipes = {
    {{recipe_config::RecipeKind::kSft, build_sft_job}, {recipe_config::RecipeKind::kGrpo, build_grpo_job}}};

}  // namespace

train::Job build_job(const recipe_config::RecipeConfig& config, train::RunContext& context) {
  for (const Row& row : kRecipes)
    if (row.kind == config.recipe) return row.build(config, context);
  if (config.recipe == recipe_config::RecipeKind::kGrpo)
    fail(ErrorKind::kUsage, "recipe: grpo is not built yet: its loss is, its rollouts and rewards are not");
  DSFT_CHECK(false, "a recipe without a row");
}

}  // namespace dsft::recipe
