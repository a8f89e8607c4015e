#include "estimate/workload.h"

#include "catch_amalgamated.hpp"
#include "estimate/model_shapes.h"

using namespace dsft::estimate;

TEST_CASE("rows of a grpo recipe are its prompts and completions, whatever data.max_length is", "[estimate]") {
  dsft::recipe_config::RecipeConfig recipe;
  recipe.recipe = dsft::recipe_config::RecipeKind::kGrpo;
  recipe.grpo.emplace().max_completion_length = 100;
  recipe.data.max_length = 4096;
  const auto shape = spec_of("Qwen3-0.6B");
  const Workload known = workload_of(recipe, shape, 28);
  REQUIRE(known.length == 128);
  REQUIRE(describe_rows(known) == "1 x 128 tokens (the longest prompt has 28, a completion up to 100)");
  const Workload assumed = workload_of(recipe, shape);
  REQUIRE(assumed.length == 612);
  REQUIRE(describe_rows(assumed) == "1 x 612 tokens (a prompt is taken to have 512, a completion up to 100)");
  recipe.grpo->num_generations = 5;
  recipe.training.per_device_train_batch_size = 20;
  recipe.training.gradient_accumulation_steps = 4;
  REQUIRE(workload_of(recipe, shape).sampled->num_sequences == 80);
  REQUIRE(workload_of(recipe, shape).sampled->num_evaluated == 0);
  recipe.grpo->steps_per_generation = 32;
  REQUIRE(workload_of(recipe, shape).sampled->num_sequences == 512);  // the most that a sampler decodes together
  recipe.training.eval_on_start = true;
  REQUIRE(workload_of(recipe, shape).sampled->num_evaluated == 512);  // rows that were not read
  recipe.eval.num_samples = 10;
  REQUIRE(workload_of(recipe, shape).sampled->num_evaluated == 50);
  recipe.recipe = dsft::recipe_config::RecipeKind::kSft;
  REQUIRE(workload_of(recipe, shape).length == 4096);
}
