#include <cstdlib>
#include <memory>
#include <string>

#include "dsft/command.h"
#include "dsft/trainer_program.h"
#include "io/output_target.h"
#include "launch/other_launchers.h"
#include "options/bench_options.h"
#include "options/consolidate_options.h"
#include "options/eval_options.h"
#include "options/generate_options.h"
#include "options/init_model_options.h"
#include "options/merge_lora_options.h"
#include "options/score_options.h"
#include "options/train_options.h"
#include "recipe_config/recipe_config.h"
#include "spec/model_spec.h"

namespace dsft::apps {
namespace {

/// Says what is wrong with a recipe before the program that computes is loaded; its warnings are dsft-trainer's to
/// print.
void check_recipe(const RecipeArguments& arguments) {
  std::vector<std::string> warnings;
  recipe_config::load_recipe(arguments.recipe, arguments.overrides, warnings);
}

void check_before(const TrainOptions& options) {
  launch::require_joinable_launcher(std::getenv);
  check_recipe(options.recipe);
}
void check_before(const EvalOptions& options) {
  launch::require_joinable_launcher(std::getenv);
  check_recipe(options.recipe);
}
void check_before(const GenerateOptions& options) {
  if (options.output.empty()) return;
  io::require_no_input(
      "--output", options.output,
      {options.input, options.messages, spec::find_model(options.model, /*revision=*/""), options.adapter});
}
void check_before(const ScoreOptions& options) {
  io::require_no_input("--output", options.output,
                       {options.input, spec::find_model(options.model, /*revision=*/""), options.adapter});
}
template <typename Options>
void check_before(const Options&) {}

/// Parses the command here, so that help and usage errors need no LibTorch, and runs it there.
template <typename Options>
void add_trainer_command(CLI::App& app, CommandResult& result, const std::string& name, const std::string& purpose) {
  CLI::App* command = app.add_subcommand(name, purpose);
  auto options = std::make_shared<Options>();
  add_options(*command, *options);
  command->callback([options, &result] {
    check_before(*options);
    run_trainer(result.arguments);
  });
}

}  // namespace

void add_trainer_commands(CLI::App& app, CommandResult& result) {
  add_trainer_command<TrainOptions>(app, result, "train",
                                    "Be one rank of a run: alone, or under mpirun, srun or torchrun");
  add_trainer_command<EvalOptions>(app, result, "eval", "Measure the recipe's eval.metrics on its evaluation data");
  add_trainer_command<GenerateOptions>(app, result, "generate", "Continue a text or a conversation");
  add_trainer_command<ScoreOptions>(app, result, "score", "Log-probabilities of the tokens of rows");
  add_trainer_command<MergeLoraOptions>(app, result, "merge-lora",
                                        "Make a plain checkpoint from a base and an adapter");
  add_trainer_command<ConsolidateOptions>(app, result, "consolidate",
                                          "Make a plain checkpoint from weights that ranks saved as shards");
  add_trainer_command<InitModelOptions>(app, result, "init-model", "Make a checkpoint with random weights");
  add_trainer_command<BenchOptions>(app, result, "bench", "Measure how fast this machine trains or decodes a model");
}

}  // namespace dsft::apps
