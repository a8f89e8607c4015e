#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dsft/build_facts.h"
#include "dsft/command.h"
#include "dsft/gpu_list.h"
#include "dsft/trainer_program.h"
#include "launch/hosts.h"
#include "launch/mpirun_version.h"
#include "launch/other_launchers.h"
#include "launch/own_cores.h"
#include "launch/passed_variables.h"
#include "launch/restarts.h"
#include "launch/visible_gpus.h"
#include "options/bounds.h"
#include "options/recipe_arguments.h"
#include "recipe_config/recipe_config.h"

namespace dsft::apps {
namespace {

struct LaunchOptions {
  RecipeArguments recipe;
  std::optional<int> num_gpus;
  std::optional<int> num_procs;
  bool is_dry_run = false;
  std::string log_dir, hostfile, include, exclude;
  int max_restarts = 0;
  std::optional<double> step_timeout;
};

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? std::optional<std::string>(value) : std::nullopt;
}

launch::Machine describe_machine() {
  const auto cuda_visible_devices = variable("CUDA_VISIBLE_DEVICES");
  const int num_gpus = count_gpus();
  return {.num_visible_gpus = launch::count_visible_gpus(cuda_visible_devices, num_gpus),
          .num_cores = launch::count_usable_cores(),
          .is_root = ::geteuid() == 0,
          .has_omp_num_threads = variable("OMP_NUM_THREADS").has_value(),
          .has_omp_wait_policy = variable("OMP_WAIT_POLICY").has_value(),
          .has_bind_cores = variable("DSFT_BIND_CORES").has_value(),
          .cuda_visible_devices = cuda_visible_devices,
          .gpu_numbers = launch::visible_gpu_numbers(cuda_visible_devices, num_gpus),
          .host_name = host_name(),
          .open_mpi_major =
              [major = std::optional<int>()]() mutable {
                if (!major) major = launch::find_open_mpi_major();
                return *major;
              },
          .variables = launch::environment_names()};
}

void print_line(process::Stream stream, std::string_view line) {
  (stream == process::Stream::kStdout ? std::cout : std::cerr) << line << std::endl;
}

launch::HeartLimits limits_of(const LaunchOptions& options) {
  launch::HeartLimits limits;
  if (options.step_timeout) limits.step = launch::HeartLimits::Seconds(*options.step_timeout);
  return limits;
}

/// The signals that ask a run to save and end: also the one of a terminal that is closed, unless nohup ignores it.
std::vector<int> stop_signals() {
  std::vector<int> signals{SIGINT, SIGTERM, SIGUSR1};
  struct sigaction action = {};
  if (::sigaction(SIGHUP, nullptr, &action) == 0 && action.sa_handler != SIG_IGN) signals.push_back(SIGHUP);
  return signals;
}

int run_launch(const LaunchOptions& options) {
  // before anything that starts threads, as the driver's library does when GPUs are listed: they must not take signals
  process::SignalListener signals(stop_signals());
  std::vector<std::string> warnings;  // the trainer prints them
  auto recipe = recipe_config::load_recipe(options.recipe.recipe, options.recipe.overrides, warnings);
  launch::LaunchRequest request{.trainer = find_trainer().string(),
                                .recipe = options.recipe.recipe,
                                .overrides = options.recipe.overrides,
                                .device = recipe.device,
                                .num_gpus = options.num_gpus,
                                .num_procs = options.num_procs,
                                .hostfile = options.hostfile,
                                .include = options.include,
                                .exclude = options.exclude};
  if (!options.hostfile.empty()) request.hosts = launch::read_hostfile(options.hostfile);
  if (const auto& ranks = recipe.run.num_processes)
    request.imported_ranks = {static_cast<int>(ranks->number), ranks->position};
  if (const auto& gpus = recipe.run.gpu_ids) request.imported_gpus = {gpus->numbers, gpus->position};
  const launch::Machine machine = describe_machine();
  const launch::LaunchPlan plan = launch::plan_launch(request, machine);
  for (const std::string& warning : plan.warnings) std::cerr << "warning: " << warning << std::endl;
  recipe_config::resolve_train_batch(recipe, plan.num_ranks);  // its fault once, not from each rank
  if (options.is_dry_run) {
    std::cout << launch::to_shell_line(plan) << std::endl;
    return 0;
  }
  launch::require_no_other_launcher(std::getenv);
  const auto make_plan = [&](bool resumes) {
    launch::LaunchRequest again = request;
    if (resumes) again.overrides.push_back("training.resume_from_checkpoint=true");
    return launch::plan_launch(again, machine);
  };
  const launch::LaunchResult result = launch::supervise_with_restarts(
      make_plan, {.log_dir = options.log_dir, .on_line = print_line, .limits = limits_of(options)},
      {.max_restarts = options.max_restarts,
       .output_dir = recipe.output_dir,
       .on_restart = [](const std::string& line) { std::cerr << "dsft launch: " << line << std::endl; }},
      signals);
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
                      "GPUs to use, of each host (all that are visible; without GPUs one CPU process)");
  command->add_option("--num-procs", options->num_procs, "CPU ranks to start");
  command->add_flag("--dry-run", options->is_dry_run, "Print the command instead of running it");
  command->add_option("--log-dir", options->log_dir, "Folder for each rank's output");
  command->add_option("--hostfile", options->hostfile, "Hosts and their slots: lines HOST slots=N");
  command->add_option("--include", options->include, "Hosts and slots to use: HOST:0,1@HOST2");
  command->add_option("--exclude", options->exclude, "Hosts and slots to leave out, written likewise");
  command
      ->add_option("--max-restarts", options->max_restarts,
                   "Restarts from the newest checkpoint after exit codes 1, 5 and 6 (0)")
      ->check(at_least(0));
  command
      ->add_option("--step-timeout", options->step_timeout,
                   "Seconds after which an update hangs (the larger of 60 and 20 times the median)")
      ->check(positive());
  command->footer("Example:\n  dsft launch --num-procs 2 recipes/sft/smollm2_135m_function_calling.yaml");
  command->callback([options, &result] { result.exit_code = run_launch(*options); });
}

}  // namespace dsft::apps
