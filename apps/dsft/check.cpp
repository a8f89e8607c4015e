#include <algorithm>
#include <functional>
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
#include "dsft/run_length.h"
#include "estimate/workload.h"
#include "optim/schedule.h"
#include "options/recipe_arguments.h"
#include "recipe_config/adapter_checks.h"
#include "recipe_config/input_checks.h"
#include "recipe_config/recipe_config.h"

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

optim::Schedule make_schedule(const recipe_config::RecipeConfig& config, int64_t num_steps) {
  const auto& training = config.training;
  const int64_t warmup =
      training.warmup_steps.value_or(optim::warmup_steps_of(training.warmup_ratio.value_or(0), num_steps));
  return {training.lr_scheduler_type, training.lr_scheduler_kwargs, training.learning_rate.value_or(0), warmup,
          num_steps};
}

/// The run as far as it is known: sizes, rows, updates, learning rates.
Json make_plan(const recipe_config::RecipeConfig& config, const recipe_config::InputReport& inputs,
               const RunLength& length) {
  const spec::ParameterCounts& counts = inputs.parameters;
  const double share =
      100.0 * static_cast<double>(counts.trainable) / static_cast<double>(std::max<int64_t>(1, counts.total));
  Json plan = {{"model", inputs.model_directory.string()},
               {"num_params", counts.model},
               {"num_trainable", counts.trainable},
               {"trainable_percent", share},
               {"num_adapted_modules", inputs.num_adapted_modules}};
  if (!length.has_rows()) return plan;
  if (length.is_grpo()) {
    plan["train_rows"] = *inputs.num_prompts;
    plan["eval_rows"] = inputs.num_eval_prompts;
    plan["longest_prompt"] = inputs.longest_prompt;
  } else {
    plan["train_rows"] = inputs.data->train->size();
    plan["train_data"] = data::describe(inputs.data->train_counts);
    plan["eval_rows"] = inputs.data->eval ? inputs.data->eval->size() : 0;
  }
  plan["num_ranks"] = length.num_ranks();
  if (length.is_grpo()) plan["round"] = length.round(length.num_ranks()).describe();
  const optim::Schedule schedule = make_schedule(config, length.count_steps(length.num_ranks()));
  plan["num_steps"] = schedule.total_steps;
  plan["warmup_steps"] = schedule.warmup_steps;
  plan["learning_rates"] = Json::object();
  for (const auto& [name, step] : optim::notable_steps(schedule))
    plan["learning_rates"][std::to_string(step)] = optim::learning_rate(schedule, step);
  return plan;
}

/// The peak of the run.
struct MemoryPlan {
  Json row;
  std::string line;
};

MemoryPlan plan_memory(const recipe_config::RecipeConfig& config, const recipe_config::InputReport& inputs,
                       int64_t num_ranks) {
  const auto longest_prompt = inputs.longest_prompt > 0 ? std::optional(inputs.longest_prompt) : std::nullopt;
  const estimate::Workload workload =
      estimate::workload_of(config, spec::read_model_spec(inputs.model_directory), longest_prompt);
  const estimate::MemoryEstimate estimate =
      estimate::estimate_memory(workload, estimate::placement_of(config, num_ranks));
  return {memory_json(estimate, workload), to_line(estimate, workload)};
}

/// What a check found.
struct CheckOutcome {
  recipe_config::RecipeReading reading;
  Json plan;
  std::string memory_line;
  int exit_code = 0;
  std::optional<int64_t> num_ranks = {};  ///< that the recipe's files mean, or for which the batch is shown; none: any
};

/// A fault or warning at the place of a key.
config::Fault place(const CheckOutcome& outcome, const std::string& key, const std::string& message) {
  std::vector<config::Fault> faults, warnings;
  config::Section("", outcome.reading.written, faults, warnings).fault(key, message);
  return faults.front();
}

/// Rounds of sampling, a length of the run or a schedule that ranks and data together make impossible.
void check_length(const CheckOutcome& outcome, const RunLength& length, recipe_config::InputReport& inputs) {
  const recipe_config::RecipeConfig& config = outcome.reading.config;
  const int64_t num_ranks = length.num_ranks();
  const auto attempt = [&](const char* key, const std::function<void()>& check) {
    try {
      check();
      return true;
    } catch (const Error& error) {
      inputs.faults.push_back({error.kind(), place(outcome, key, error.full_message())});
      return false;
    }
  };
  if (length.is_grpo()) {
    const char* key =
        config.grpo->generation_batch_size ? "grpo.generation_batch_size" : "training.per_device_train_batch_size";
    if (!attempt(key, [&] { length.round(num_ranks); })) return;
    if (length.has_rows() && !attempt("data.train", [&] { length.rounds_per_epoch(num_ranks); })) return;
  }
  if (!length.has_rows() || !attempt("training.num_train_epochs", [&] { length.count_steps(num_ranks); })) return;
  const auto schedule_on = [&](int64_t ranks) { return make_schedule(config, length.count_steps(ranks)); };
  attempt("training.lr_scheduler_type", [&] { optim::check_schedule(schedule_on(num_ranks)); });
  if (const auto& total = config.training.lr_scheduler_kwargs.total_num_steps)
    attempt("training.lr_scheduler_kwargs.total_num_steps",
            [&] { optim::check_total_steps(schedule_on(length.find_ranks(*total))); });
}

/// The ranks that the recipe's files mean, and the batch that a DeepSpeed file's train_batch_size gives on them, or on
/// those of this host.
void settle_ranks(CheckOutcome& outcome) {
  recipe_config::RecipeReading& reading = outcome.reading;
  recipe_config::RecipeConfig& config = reading.config;
  if (has_expected_ranks(config)) outcome.num_ranks = expected_ranks(config);
  if (!config.run.train_batch_size) return;
  const recipe_config::TrainBatchSize batch = *config.run.train_batch_size;
  int64_t num_ranks = recipe_config::ranks_on_host(config, count_usable_gpus());
  auto fault = recipe_config::fill_train_batch(config, num_ranks);
  if (fault && !outcome.num_ranks) {
    num_ranks = 1;
    fault = recipe_config::fill_train_batch(config, num_ranks);
  }
  if (fault) {
    reading.faults.push_back(*std::move(fault));
    outcome.exit_code = static_cast<int>(ErrorKind::kUsage);
    return;
  }
  outcome.num_ranks = num_ranks;
  if (!batch.has_micro_batch || !batch.has_accumulation) {
    reading.warnings.push_back(
        {batch.position, "train_batch_size",
         concat("micro-batch and accumulation are shown for ", num_ranks, num_ranks == 1 ? " rank" : " ranks",
                "; they follow from the number that is launched")});
    config::sort_faults(reading.warnings);
  }
}

/// Says for how many ranks it is planned where one is too few.
void warn_of_ranks(CheckOutcome& outcome, const RunLength& length) {
  if (!length.needs_ranks()) return;
  const int64_t num_ranks = length.num_ranks();
  outcome.reading.warnings.push_back(
      place(outcome, "training.per_device_train_batch_size",
            concat("a round of sampling has whole groups of completions on ", num_ranks,
                   " ranks and multiples of them alone; this is planned for ", num_ranks, ": launch with --num-gpus ",
                   num_ranks, " or --num-procs ", num_ranks, ", or change training.gradient_accumulation_steps")));
}

/// Says where an update's loss is divided by other tokens than by TRL. The round is possible.
void warn_of_divisor(CheckOutcome& outcome, const RunLength& length) {
  if (!length.is_grpo()) return;
  const rl::GrpoConfig& grpo = *outcome.reading.config.grpo;
  const std::string divisor = rl::explain_divisor(grpo.loss_type, length.round(length.num_ranks()));
  if (divisor.empty()) return;
  const int64_t num_ranks = length.num_ranks();
  outcome.reading.warnings.push_back(
      place(outcome, grpo.generation_batch_size ? "grpo.generation_batch_size" : "grpo.steps_per_generation",
            concat("on ", num_ranks, num_ranks == 1 ? " rank " : " ranks ", divisor)));
}

void add_memory(CheckOutcome& outcome, const recipe_config::InputReport& inputs) {
  const recipe_config::RecipeConfig& config = outcome.reading.config;
  try {
    MemoryPlan memory = plan_memory(config, inputs, outcome.num_ranks.value_or(ranks_to_estimate(config)));
    outcome.plan["memory"] = std::move(memory.row);
    outcome.memory_line = std::move(memory.line);
  } catch (const Error& error) {  // a micro-batch beyond all memory
    outcome.reading.faults.push_back(place(outcome, "training.per_device_train_batch_size", error.full_message()));
    outcome.exit_code = error.exit_code();
  }
}

/// Adds what is wrong beyond the recipe itself; the exit code is the first of 2, 4, 3 (docs/exit_codes.md), then any
/// other.
void check_beyond(CheckOutcome& outcome, const Logger& logger) {
  recipe_config::InputReport inputs =
      recipe_config::check_inputs(outcome.reading.config, outcome.reading.written, logger);
  const RunLength length(outcome.reading.config, inputs, outcome.num_ranks);
  check_length(outcome, length, inputs);
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
  warn_of_ranks(outcome, length);
  if (inputs.faults.empty()) warn_of_divisor(outcome, length);
  config::sort_faults(outcome.reading.faults);
  config::sort_faults(outcome.reading.warnings);
  if (!inputs.faults.empty()) return;
  recipe_config::adopt_adapter(outcome.reading.config);
  recipe_config::resolve_auto_sizes(outcome.reading.config, inputs.hidden_size);
  outcome.plan = make_plan(outcome.reading.config, inputs, length);
  add_memory(outcome, inputs);
}

CheckOutcome check_recipe(const CheckOptions& options) {
  CheckOutcome outcome;
  outcome.reading = recipe_config::read_recipe(options.recipe.recipe, options.recipe.overrides);
  if (!outcome.reading.is_ok()) {
    outcome.exit_code = static_cast<int>(ErrorKind::kUsage);
    return outcome;
  }
  recipe_config::resolve_defaults(outcome.reading.config, count_usable_gpus() > 0);
  settle_ranks(outcome);
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
