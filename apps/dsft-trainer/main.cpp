#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string_view>

#include "base/error.h"
#include "comm/placement.h"
#include "dsft-trainer/failure.h"
#include "dsft-trainer/tasks.h"

namespace {

using namespace dsft;

/// What is known of the task that was asked for.
struct Outcome {
  int exit_code = 0;
  std::string_view memory_advice = "";  ///< what to try where its memory runs out
};

/// One task: its options, declared where `dsft` declares them, and the function that runs it.
template <typename Options>
void add_task(CLI::App& app, const char* name, int (*run)(const Options&, const Logger&),
              std::string_view memory_advice, Outcome& outcome) {
  CLI::App* command = app.add_subcommand(name, "");
  auto options = std::make_shared<Options>();
  apps::add_options(*command, *options);
  command->callback([=, &outcome] {
    outcome.memory_advice = memory_advice;
    outcome.exit_code = run(*options, Logger(comm::read_placement().rank));
  });
}

void run(int argc, char** argv, Outcome& outcome) {
  CLI::App app("dsft-trainer: the part of dsft that computes; started by dsft", "dsft-trainer");
  app.require_subcommand(1);
  add_task<apps::TrainOptions>(app, "train", apps::run_train, apps::kTrainingMemoryAdvice, outcome);
  add_task<apps::EvalOptions>(
      app, "eval", apps::run_eval,
      "Try a smaller training.per_device_eval_batch_size, data.max_length or "
      "eval.max_new_tokens (in a grpo recipe grpo.max_completion_length instead), or --dtype bf16 "
      "instead of fp32.",
      outcome);
  add_task<apps::GenerateOptions>(app, "generate", apps::run_generate,
                                  "Try fewer rows of --input at a time (up to 32 are decoded together), shorter "
                                  "prompts, a smaller --max-new-tokens, or --dtype bf16 instead of fp32.",
                                  outcome);
  add_task<apps::ScoreOptions>(app, "score", apps::run_score,
                               "Try shorter rows (those up to 4096 tokens together share a pass, a longer one has its "
                               "own), or --dtype bf16 instead of fp32.",
                               outcome);
  add_task<apps::MergeLoraOptions>(app, "merge-lora", apps::run_merge_lora, "", outcome);
  add_task<apps::ConsolidateOptions>(app, "consolidate", apps::run_consolidate, "", outcome);
  add_task<apps::InitModelOptions>(app, "init-model", apps::run_init_model, "", outcome);
  add_task<apps::BenchOptions>(app, "bench", apps::run_bench, "Try a smaller --batch-size or --length, or --recompute.",
                               outcome);
  app.parse(argc, argv);
  if (!std::cout.flush()) fail(ErrorKind::kData, "the results could not be written to stdout (is the disk full?)");
}

int print_error(const std::string& message, ErrorKind kind) {
  std::cout.flush();
  std::cerr << "error: " << message << std::endl;
  return static_cast<int>(kind);
}

int run_and_report(int argc, char** argv) {
  Outcome outcome;
  try {
    run(argc, argv, outcome);
    return outcome.exit_code;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return 0;
    return print_error(error.what(), ErrorKind::kUsage);
  } catch (...) {
    const apps::Failure failure = apps::describe_current_exception(outcome.memory_advice);
    return print_error(failure.message, failure.kind);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return run_and_report(argc, argv);
}
