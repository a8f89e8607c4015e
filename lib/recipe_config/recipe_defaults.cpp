#include "recipe_config/recipe_defaults.h"

namespace dsft::recipe_config {
namespace {

/// Of what changes the result GRPOConfig's own or inherited defaults; saving and reports are as in the other recipes.
void apply_grpo_defaults(train::TrainingConfig& training) {
  training.num_train_epochs = 3;
  training.per_device_train_batch_size = 8;
  training.per_device_eval_batch_size = 8;
  training.gradient_checkpointing = train::GradientCheckpointing::kTrue;
  training.lr_scheduler_type = optim::SchedulerType::kLinear;
  training.logging_steps = 10;
}

}  // namespace

void apply_recipe_defaults(RecipeKind kind, RecipeConfig& config) {
  if (kind != RecipeKind::kGrpo) return;
  apply_grpo_defaults(config.training);
  config.eval.metrics = {evaluate::Metric::kPassAtK};
}

void apply_recipe_defaults(const config::Node& recipe, RecipeConfig& config) {
  const config::Node* word = recipe.find("recipe");
  if (!word || !word->is_scalar()) return;
  if (const auto kind = config::from_word<RecipeKind>(word->text)) apply_recipe_defaults(*kind, config);
}

const char* default_best_metric(RecipeKind recipe) {
  return recipe == RecipeKind::kGrpo ? "reward" : "loss";
}

}  // namespace dsft::recipe_config
