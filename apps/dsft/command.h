#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace dsft::apps {

/// What a command gets and what it gave.
struct CommandResult {
  std::vector<std::string> arguments;  ///< the command line as typed, without the program's name
  int exit_code = 0;
};

/// Adds one command. The pattern, in apps/dsft/<command>.cpp:
///
///   void add_tokenize_command(CLI::App& app, CommandResult& result) {
///     auto options = std::make_shared<TokenizeOptions>();
///     CLI::App* command = app.add_subcommand("tokenize", "Show the ids and pieces of a text");
///     command->add_option("--model", options->model, "Model directory")->required();
///     command->footer("Example:\n  dsft tokenize --model models/x --text 'hello'");
///     command->callback([options, &result] { result.exit_code = run_tokenize(*options); });
///   }
///
/// and one line in the table of commands.cpp. A command prints its results on stdout and throws dsft::Error; main.cpp
/// alone catches and ends the program. Commands that take a recipe use add_recipe_arguments
/// (options/recipe_arguments.h) and recipe_config::load_recipe.
using AddCommand = void (*)(CLI::App& app, CommandResult& result);

void add_check_command(CLI::App& app, CommandResult& result);
void add_env_command(CLI::App& app, CommandResult& result);
void add_estimate_memory_command(CLI::App& app, CommandResult& result);
void add_launch_command(CLI::App& app, CommandResult& result);
void add_preview_command(CLI::App& app, CommandResult& result);
void add_recipes_command(CLI::App& app, CommandResult& result);
void add_tokenize_command(CLI::App& app, CommandResult& result);
/// train, eval, generate, score, merge-lora, init-model: parsed here, run by dsft-trainer.
void add_trainer_commands(CLI::App& app, CommandResult& result);
/// Commands that later work brings; each gives one clear fault.
void add_later_commands(CLI::App& app, CommandResult& result);

/// Adds every command, in the order of the help.
void add_commands(CLI::App& app, CommandResult& result);

}  // namespace dsft::apps
