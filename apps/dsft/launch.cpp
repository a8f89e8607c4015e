#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "dsft/build_facts.h"
#include "dsft/command.h"
#include "dsft/gpu_list.h"
#include "dsft/trainer_program.h"
#include "launch/other_launchers.h"
#include "launch/supervisor.h"
#include "options/recipe_arguments.h"
#include "recipe_config/recipe_config.h"

namespace dsft::apps {
namespace {

struct LaunchOptions {
  RecipeArguments recipe;
  std::optional<int> num_gpus;
  std::optional<int> num_procs;
  bool is_dry_run = false;
  std::string log_dir;
  std::string hostfile, include, exclude, max_restarts, step_timeout;
};

void refuse_later_options(const LaunchOptions& options) {
  const std::pair<const char*, const std::string&> kLater[] = {{"--hostfile", options.hostfile},
                                                               {"--include", options.include},
                                                               {"--exclude", options.exclude},
                                                               {"--max-restarts", options.max_restarts},
                                                               {"--step-timeout", options.step_timeout}};
  for (const auto& [name, value] : kLater) {
    if (!value.empty()) fail(ErrorKind::kUsage, name, " is not built yet: it comes with multi-host launching");
  }
}

launch::Machine describe_machine() {
  return {.num_visible_gpus = count_usable_gpus(),
          .num_cores = launch::count_usable_cores(),
          .is_root = ::geteuid() == 0,
          .has_omp_num_threads = std::getenv("OMP_NUM_THREADS") != nullptr,
          .has_omp_wait_policy = std::getenv("OMP_WAIT_POLICY") != nullptr};
}

void print_line(process::Stream stream, std::string_view line) {
  (stream == process::Stream::kStdout ? std::cout : std::cerr) << line << std::endl;
}

int run_launch(const LaunchOptions& options) {
  refuse_later_options(options);
  // before anything that starts threads, as the driver's library does when GPUs are listed: they must not take signals
  process::SignalListener signals({SIGINT, SIGTERM, SIGUSR1});
  std::vector<std::string> warnings;  // the trainer prints them
  const auto recipe = recipe_config::load_recipe(options.recipe.recipe, options.recipe.overrides, warnings);
  const launch::LaunchPlan plan = launch::plan_launch({.trainer = find_trainer().string(),
                                                       .recipe = options.recipe.recipe,
                                                       .overrides = options.recipe.overrides,
                                                       .device = recipe.device,
                                                       .num_gpus = options.num_gpus,
                                                       .num_procs = options.num_procs},
                                                      describe_machine());
  if (options.is_dry_run) {
    std::cout << launch::to_shell_line(plan.argv) << std::endl;
    return 0;
  }
  launch::require_no_other_launcher(std::getenv);
  const launch::LaunchResult result =
      launch::supervise(plan, {.log_dir = options.log_dir, .on_line = print_line}, signals);
  if (result.exit_code == 0) return 0;
  if (!result.tail.empty()) std::cerr << result.tail;
  std::cerr << "dsft launch: " << result.reason << std::endl;
  return result.exit_code;
}

}  // namespace

void add_launch_command(CLI::App& app, CommandResult& result) {
  auto options = std::make_shared<LaunchOptions>();
  CLI::App* command = app.add_subcommand("launch", "Train: start one process per GPU, or CPU ranks, and watch them");
  add_recipe_arguments(*command, options->recipe);
  command->add_option("--num-gpus", options->num_gpus,
                      "GPUs to use (all that are visible; without GPUs one CPU process)");
  command->add_option("--num-procs", options->num_procs, "CPU ranks to start");
  command->add_flag("--dry-run", options->is_dry_run, "Print the command instead of running it");
  command->add_option("--log-dir", options->log_dir, "Folder for each rank's output");
  command->add_option("--hostfile", options->hostfile, "Hosts and their slots (not built yet)");
  command->add_option("--include", options->include, "Hosts and slots to use (not built yet)");
  command->add_option("--exclude", options->exclude, "Hosts and slots to leave out (not built yet)");
  command->add_option("--max-restarts", options->max_restarts, "Restarts after a lost rank (not built yet)");
  command->add_option("--step-timeout", options->step_timeout, "Seconds until a step counts as hung (not built yet)");
  command->footer("Example:\n  dsft launch --num-procs 2 recipes/sft/smollm2_135m_function_calling.yaml");
  command->callback([options, &result] { result.exit_code = run_launch(*options); });
}

}  // namespace dsft::apps
