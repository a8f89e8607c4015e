#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/logger.h"
#include "dsft/build_facts.h"
#include "dsft/command.h"
#include "dsft/gpu_list.h"
#include "dsft/memory_report.h"
#include "estimate/workload.h"
#include "optim/schedule.h"
#include "options/recipe_arguments.h"
#include "recipe_config/adapter_checks.h"
#include "recipe_config/input_checks.h"
#include "recipe_config/recipe_config.h"
#include "rl/generation_batch.h"

namespace dsft::apps {
namespace {

using Json = nlohmann::ordered_json;

struct CheckOptions {
  RecipeArguments recipe;
  bool is_config_only = false;
  bool is_json = false;
};

Json to_json(const std::vector<config::Fault>& faults) {
  Json list = Json::array();
  for (const config::Fault& fault : faults) {
    list.push_back({{"file", fault.position.file},
                    {"line", fault.position.line},
                    {"column", fault.position.column},
                    {"key", fault.key},
                    {"message", fault.message}});
  }
  return list;
}

/// A round of sampling of a grpo recipe on one rank.
rl::GenerationBatch generation_batch(const recipe_config::RecipeConfig& config) {
  return rl::plan_generation(*config.grpo, {.per_micro_batch = config.training.per_device_train_batch_size,
                                            .accumulation = config.training.gradient_accumulation_steps});
}

int64_t count_rollout_steps(const recipe_config::RecipeConfig& config, int64_t num_prompts) {
  const rl::GenerationBatch batch = generation_batch(config);
  return batch.count_updates(config.training.max_steps, config.training.num_train_epochs,
                             batch.rounds_per_epoch(num_prompts));
}

optim::Schedule make_schedule(const recipe_config::RecipeConfig& config, int64_t num_steps) {
  const auto& training = config.training;
  const int64_t warmup =
      training.warmup_steps.value_or(optim::warmup_steps_of(training.warmup_ratio.value_or(0), num_steps));
  return {training.lr_scheduler_type, training.lr_scheduler_kwargs, training.learning_rate.value_or(0), warmup,
          num_steps};
}

/// The run as far as it is known: sizes, rows, updates, learning rates.
Json make_plan(const recipe_config::RecipeConfig& config, const recipe_config::InputReport& inputs) {
  const spec::ParameterCounts& counts = inputs.parameters;
  const double share =
      100.0 * static_cast<double>(counts.trainable) / static_cast<double>(std::max<int64_t>(1, counts.total));
  Json plan = {{"model", inputs.model_directory.string()},
               {"num_params", counts.model},
               {"num_trainable", counts.trainable},
               {"trainable_percent", share},
               {"num_adapted_modules", inputs.num_adapted_modules}};
  if (!inputs.data && !inputs.num_prompts) return plan;
  if (inputs.num_prompts) {
    plan["train_rows"] = *inputs.num_prompts;
    plan["eval_rows"] = inputs.num_eval_prompts;
    plan["round_on_one_rank"] = generation_batch(config).describe();
  } else {
    plan["train_rows"] = inputs.data->train->size();
    plan["train_data"] = data::describe(inputs.data->train_counts);
    plan["eval_rows"] = inputs.data->eval ? inputs.data->eval->size() : 0;
  }
  const optim::Schedule schedule =
      make_schedule(config, inputs.num_prompts ? count_rollout_steps(config, *inputs.num_prompts)
                                               : recipe_config::count_steps(config, *inputs.data->train, 1));
  plan["num_steps_on_one_rank"] = schedule.total_steps;
  plan["warmup_steps"] = schedule.warmup_steps;
  plan["learning_rates"] = Json::object();
  for (const auto& [name, step] : optim::notable_steps(schedule))
    plan["learning_rates"][std::to_string(step)] = optim::learning_rate(schedule, step);
  return plan;
}

/// The peak of the run, on the ranks that its files mean, or else on this machine.
struct MemoryPlan {
  Json row;
  std::string line;
};

MemoryPlan plan_memory(const recipe_config::RecipeConfig& config, const recipe_config::InputReport& inputs,
                       std::optional<int64_t> num_ranks) {
  const estimate::Workload workload = estimate::workload_of(config, spec::read_model_spec(inputs.model_directory));
  const int64_t num_gpus = num_ranks.value_or(workload.is_on_gpu ? std::max(1, count_usable_gpus()) : 1);
  const estimate::MemoryEstimate estimate =
      estimate::estimate_memory(workload, estimate::placement_of(config, num_gpus));
  return {memory_json(estimate, workload), to_line(estimate, workload)};
}

/// What a check found.
struct CheckOutcome {
  recipe_config::RecipeReading reading;
  Json plan;
  std::string memory_line;
  int exit_code = 0;
  std::optional<int64_t> num_ranks = {};  ///< that the recipe's files mean; none: any number may be launched
};

/// The ranks on which the run may have `total_num_steps` updates; 1 where there are none.
int64_t find_ranks(const recipe_config::RecipeConfig& config, const data::Dataset& train, int64_t total_num_steps) {
  // more ranks never make a run longer
  int64_t low = 1, high = recipe_config::count_steps(config, train, 1);
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (recipe_config::count_steps(config, train, middle) <= total_num_steps)
      high = middle;
    else
      low = middle + 1;
  }
  return recipe_config::count_steps(config, train, low) == total_num_steps ? low : 1;
}

/// A schedule that the run's length, which only the data tells, makes impossible.
void check_schedule(const CheckOutcome& outcome, recipe_config::InputReport& inputs) {
  if (!inputs.data) return;
  const recipe_config::RecipeConfig& config = outcome.reading.config;
  const data::Dataset& train = *inputs.data->train;
  const auto check = [&](const char* key, void (*check_it)(const optim::Schedule&), int64_t num_ranks) {
    try {
      check_it(make_schedule(config, recipe_config::count_steps(config, train, num_ranks)));
    } catch (const Error& error) {
      std::vector<config::Fault> faults, warnings;
      config::Section("", outcome.reading.written, faults, warnings).fault(key, error.full_message());
      inputs.faults.push_back({error.kind(), faults.front()});
    }
  };
  check("training.lr_scheduler_type", optim::check_schedule, 1);
  if (const auto& total = config.training.lr_scheduler_kwargs.total_num_steps) {
    const int64_t num_ranks = outcome.num_ranks ? *outcome.num_ranks : find_ranks(config, train, *total);
    check("training.lr_scheduler_kwargs.total_num_steps", optim::check_total_steps, num_ranks);
  }
}

/// The batch that a DeepSpeed file's train_batch_size gives on the ranks that it is meant for.
void fill_train_batch(CheckOutcome& outcome) {
  recipe_config::RecipeReading& reading = outcome.reading;
  const recipe_config::RunSettings& run = reading.config.run;
  if (run.train_batch_size || run.num_processes) outcome.num_ranks = recipe_config::expected_ranks(reading.config);
  if (!run.train_batch_size) return;
  const recipe_config::TrainBatchSize batch = *reading.config.run.train_batch_size;
  const int64_t num_ranks = recipe_config::expected_ranks(reading.config);
  if (auto fault = recipe_config::fill_train_batch(reading.config, num_ranks)) {
    reading.faults.push_back(*std::move(fault));
    outcome.exit_code = static_cast<int>(ErrorKind::kUsage);
    return;
  }
  if (!batch.has_micro_batch || !batch.has_accumulation) {
    reading.warnings.push_back(
        {batch.position, "train_batch_size",
         concat("micro-batch and accumulation are shown for ", num_ranks, num_ranks == 1 ? " rank" : " ranks",
                "; they follow from the number that is launched")});
    config::sort_faults(reading.warnings);
  }
}

/// Adds what is wrong beyond the recipe itself; the exit code is the first of 2, 4, 3 (docs/exit_codes.md), then any
/// other.
void check_beyond(CheckOutcome& outcome, const Logger& logger) {
  recipe_config::InputReport inputs =
      recipe_config::check_inputs(outcome.reading.config, outcome.reading.written, logger);
  check_schedule(outcome, inputs);
  for (const ErrorKind kind : {ErrorKind::kUsage, ErrorKind::kCheckpoint, ErrorKind::kData}) {
    for (const recipe_config::InputFault& found : inputs.faults) {
      if (outcome.exit_code == 0 && found.kind == kind) outcome.exit_code = static_cast<int>(kind);
    }
  }
  for (const recipe_config::InputFault& found : inputs.faults) {
    if (outcome.exit_code == 0) outcome.exit_code = static_cast<int>(found.kind);
    outcome.reading.faults.push_back(found.fault);
  }
  for (config::Fault& warning : inputs.warnings) outcome.reading.warnings.push_back(std::move(warning));
  config::sort_faults(outcome.reading.faults);
  config::sort_faults(outcome.reading.warnings);
  if (!inputs.faults.empty()) return;
  recipe_config::adopt_adapter(outcome.reading.config);
  recipe_config::resolve_auto_sizes(outcome.reading.config, inputs.hidden_size);
  outcome.plan = make_plan(outcome.reading.config, inputs);
  MemoryPlan memory = plan_memory(outcome.reading.config, inputs, outcome.num_ranks);
  outcome.plan["memory"] = std::move(memory.row);
  outcome.memory_line = std::move(memory.line);
}

CheckOutcome check_recipe(const CheckOptions& options) {
  CheckOutcome outcome;
  outcome.reading = recipe_config::read_recipe(options.recipe.recipe, options.recipe.overrides);
  if (!outcome.reading.is_ok()) {
    outcome.exit_code = static_cast<int>(ErrorKind::kUsage);
    return outcome;
  }
  recipe_config::resolve_defaults(outcome.reading.config, count_usable_gpus() > 0);
  fill_train_batch(outcome);
  if (!outcome.reading.is_ok()) return outcome;
  if (!options.is_config_only) check_beyond(outcome, Logger(0, options.is_json));
  return outcome;
}

void print_json(const CheckOutcome& outcome) {
  const recipe_config::RecipeReading& reading = outcome.reading;
  Json document;
  document["ok"] = reading.is_ok();
  document["faults"] = to_json(reading.faults);
  document["warnings"] = to_json(reading.warnings);
  // of a faulty recipe no value can be trusted
  document["recipe"] = outcome.exit_code == static_cast<int>(ErrorKind::kUsage)
                           ? Json()
                           : Json::parse(recipe_config::to_json(reading.config));
  document["plan"] = outcome.plan;
  std::cout << document.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
}

void print_text(const CheckOutcome& outcome) {
  for (const config::Fault& warning : outcome.reading.warnings)
    std::cerr << "warning: " << config::to_string(warning) << "\n";
  if (outcome.reading.is_ok()) {
    std::cout << recipe_config::to_yaml(outcome.reading.config);
    if (!outcome.plan.is_null()) std::cout << "\n# plan\n";
    for (const auto& [name, value] : outcome.plan.items()) {
      const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
      std::cout << "# " << name << ": " << (name == "memory" ? outcome.memory_line : text) << "\n";
    }
    return;
  }
  std::string message =
      concat(outcome.reading.faults.size(), outcome.reading.faults.size() == 1 ? " fault:" : " faults:");
  for (const config::Fault& fault : outcome.reading.faults) message += "\n" + config::to_string(fault);
  throw Error(static_cast<ErrorKind>(outcome.exit_code), message);
}

int run_check(const CheckOptions& options) {
  const CheckOutcome outcome = check_recipe(options);
  if (options.is_json) {
    print_json(outcome);
  } else {
    print_text(outcome);
  }
  return outcome.exit_code;
}

}  // namespace

void add_check_command(CLI::App& app, CommandResult& result) {
  auto options = std::make_shared<CheckOptions>();
  CLI::App* command = app.add_subcommand("check", "Say everything that is wrong before computing");
  add_recipe_arguments(*command, options->recipe);
  command->add_flag("--config-only", options->is_config_only, "Look at the recipe alone, at no model or data file");
  command->add_flag("--json", options->is_json, "One JSON object on stdout: {ok, faults, warnings, recipe, plan}");
  command->footer("Example:\n  dsft check recipe.yaml training.learning_rate=1e-4");
  command->callback([options, &result] { result.exit_code = run_check(*options); });
}

}  // namespace dsft::apps
