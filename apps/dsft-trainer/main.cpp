#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "base/error.h"
#include "comm/placement.h"
#include "dsft-trainer/failure.h"
#include "dsft-trainer/tasks.h"

namespace {

using namespace dsft;

/// One task: its options, declared where `dsft` declares them, and the function that runs it.
template <typename Options>
void add_task(CLI::App& app, const char* name, int (*run)(const Options&, const Logger&), int& exit_code) {
  CLI::App* command = app.add_subcommand(name, "");
  auto options = std::make_shared<Options>();
  apps::add_options(*command, *options);
  command->callback([=, &exit_code] { exit_code = run(*options, Logger(comm::read_placement().rank)); });
}

int run(int argc, char** argv) {
  CLI::App app("dsft-trainer: the part of dsft that computes; started by dsft", "dsft-trainer");
  app.require_subcommand(1);
  int exit_code = 0;
  add_task<apps::TrainOptions>(app, "train", apps::run_train, exit_code);
  add_task<apps::EvalOptions>(app, "eval", apps::run_eval, exit_code);
  add_task<apps::GenerateOptions>(app, "generate", apps::run_generate, exit_code);
  add_task<apps::ScoreOptions>(app, "score", apps::run_score, exit_code);
  add_task<apps::MergeLoraOptions>(app, "merge-lora", apps::run_merge_lora, exit_code);
  add_task<apps::InitModelOptions>(app, "init-model", apps::run_init_model, exit_code);
  add_task<apps::BenchOptions>(app, "bench", apps::run_bench, exit_code);
  app.parse(argc, argv);
  if (!std::cout.flush()) fail(ErrorKind::kData, "the results could not be written to stdout (is the disk full?)");
  return exit_code;
}

int print_error(const std::string& message, ErrorKind kind) {
  std::cout.flush();
  std::cerr << "error: " << message << std::endl;
  return static_cast<int>(kind);
}

int run_and_report(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return 0;
    return print_error(error.what(), ErrorKind::kUsage);
  } catch (...) {
    const apps::Failure failure = apps::describe_current_exception();
    return print_error(failure.message, failure.kind);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return run_and_report(argc, argv);
}
