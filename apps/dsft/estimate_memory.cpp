#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/logger.h"
#include "dsft/command.h"
#include "dsft/gpu_list.h"
#include "dsft/memory_report.h"
#include "dsft/run_length.h"
#include "estimate/memory.h"
#include "estimate/model_shapes.h"
#include "estimate/size_table.h"
#include "estimate/workload.h"
#include "options/compute_options.h"
#include "options/recipe_arguments.h"
#include "recipe_config/adapter_checks.h"
#include "spec/parameter_counts.h"

namespace dsft::apps {
namespace {

using Json = nlohmann::ordered_json;

struct EstimateOptions {
  RecipeArguments recipe;
  std::string model;   ///< directory, hub id or config.json
  std::string params;  ///< "7B"
  int64_t num_gpus = 0;
  int64_t batch_size = 1;
  int64_t length = 2048;
  int64_t lora_rank = 0;                    ///< 0: full fine-tuning
  std::optional<spec::ComputeDtype> dtype;  ///< none: bf16
  bool recomputes = false;
  bool recomputes_selectively = false;
  bool has_table = false;
  bool is_json = false;
};

/// What is estimated, and how it is called.
struct Subject {
  std::string name;
  estimate::Workload workload;
  int64_t num_gpus = 1;
  bool gathers_ahead = true;  ///< a block ahead, at stage 3
};

train::GradientCheckpointing recompute_of(const EstimateOptions& options) {
  if (options.recomputes) return train::GradientCheckpointing::kTrue;
  return options.recomputes_selectively ? train::GradientCheckpointing::kSelective
                                        : train::GradientCheckpointing::kFalse;
}

spec::ModelSpec read_model(const std::string& model) {
  if (std::filesystem::is_regular_file(model)) return spec::read_model_spec_file(model);
  return spec::read_model_spec(spec::find_model(model, ""));
}

Subject subject_of_recipe(const EstimateOptions& options, const Logger& logger) {
  std::vector<std::string> warnings;
  auto recipe = recipe_config::load_recipe(options.recipe.recipe, options.recipe.overrides, warnings);
  for (const std::string& warning : warnings) logger.warn(warning);
  // a recipe is estimated for GPUs unless it names the CPU, on whatever machine this is
  recipe_config::resolve_defaults(recipe, /*has_cuda=*/true);
  recipe_config::adopt_adapter(recipe);
  const int64_t num_gpus = options.num_gpus > 0 ? options.num_gpus : ranks_to_estimate(recipe);
  recipe_config::resolve_train_batch(recipe, num_gpus);
  const spec::ModelSpec model = spec::read_model_spec(spec::find_model(recipe.model.path, recipe.model.revision));
  return {recipe.model.path, estimate::workload_of(recipe, model), num_gpus, recipe.zero.overlap_comm};
}

Subject subject_of_options(const EstimateOptions& options) {
  Subject subject;
  subject.num_gpus = options.num_gpus > 0 ? options.num_gpus : std::max(1, count_usable_gpus());
  if (!options.params.empty()) {
    const estimate::SizedModel sized = estimate::model_of_size(estimate::parse_size(options.params));
    subject.name = sized.description;
    subject.workload.model = sized.spec;
  } else {
    subject.name = options.model;
    subject.workload.model = read_model(options.model);
  }
  estimate::Workload& workload = subject.workload;
  workload.dtype = options.dtype.value_or(spec::ComputeDtype::kBf16);
  workload.num_documents = options.batch_size;
  workload.length = options.length;
  workload.recompute = recompute_of(options);
  if (options.lora_rank > 0) {
    workload.lora = lora::LoraConfig();
    workload.lora->r = options.lora_rank;
  }
  return subject;
}

// Exactly one subject, and no option that a recipe settles.
void check_subject(const CLI::App& command, const EstimateOptions& options) {
  const int given = !options.recipe.recipe.empty() + !options.model.empty() + !options.params.empty();
  if (options.has_table) {
    if (given > 0) fail(ErrorKind::kUsage, "--table computes the model-size guide; it takes no model, size or recipe");
  } else if (given != 1) {
    fail(ErrorKind::kUsage, "name what to estimate, one of: a recipe, --model DIR, --params 7B, --table");
  }
  if (options.recipe.recipe.empty() && !options.has_table) return;
  const std::string who = options.has_table ? "--table" : "the recipe";
  for (const char* name :
       {"--batch-size", "--length", "--lora-rank", "--dtype", "--recompute", "--recompute-selectively"})
    if (command.count(name) > 0)
      fail(ErrorKind::kUsage, name, ": ", who, " says that already",
           options.has_table ? ""
                             : "; write a setting behind the recipe, such as training.per_device_train_batch_size=2");
  if (options.has_table && command.count("--num-gpus") > 0)
    fail(ErrorKind::kUsage, "--num-gpus: --table takes the guide's numbers of GPUs");
}

Json to_json(const Subject& subject, const std::vector<estimate::MemoryEstimate>& rows) {
  const estimate::Workload& workload = subject.workload;
  const auto counts = spec::count_parameters(workload.model, workload.lora ? &*workload.lora : nullptr);
  Json document = {{"model", subject.name},
                   {"num_params", counts.model},
                   {"num_trainable", counts.trainable},
                   {"dtype", config::to_word(workload.dtype)},
                   {"tokens", workload.num_tokens()}};
  if (workload.sampled) document["assumed_prompt_tokens"] = workload.sampled->prompt_length;
  document["rows"] = Json::array();
  for (const estimate::MemoryEstimate& row : rows) document["rows"].push_back(memory_json(row, workload));
  return document;
}

std::string title_of(const Subject& subject) {
  const estimate::Workload& workload = subject.workload;
  const auto counts = spec::count_parameters(workload.model, workload.lora ? &*workload.lora : nullptr);
  const std::string recompute =
      workload.recompute == train::GradientCheckpointing::kFalse
          ? "nothing recomputed"
          : (workload.recompute == train::GradientCheckpointing::kTrue ? "layers recomputed"
                                                                       : "gate and up of each MLP recomputed");
  return concat(subject.name, ": ", counts.model, " parameters, ", counts.trainable, " trained (",
                workload.lora ? "LoRA" : "all weights", "), ", config::to_word(workload.dtype), ", micro-batch ",
                describe_rows(workload), ", ", recompute);
}

int run_subject(const EstimateOptions& options) {
  const Subject subject = options.recipe.recipe.empty() ? subject_of_options(options)
                                                        : subject_of_recipe(options, Logger(0, options.is_json));
  const int64_t num_gpus = subject.num_gpus;
  std::vector<estimate::MemoryEstimate> rows;
  std::vector<estimate::Placement> placements = estimate::all_placements(num_gpus);
  std::stable_sort(placements.begin(), placements.end(),
                   [](const auto& a, const auto& b) { return a.stage < b.stage; });
  for (estimate::Placement& placement : placements) {
    placement.gathers_ahead = subject.gathers_ahead;
    const bool offloads = placement.offloads_optimizer || placement.offloads_parameters;
    if (offloads && !subject.workload.is_on_gpu) continue;  // CPU ranks compute in the host's memory anyway
    rows.push_back(estimate::estimate_memory(subject.workload, placement));
  }
  if (options.is_json) {
    std::cout << to_json(subject, rows).dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
    return 0;
  }
  std::cout << title_of(subject) << "\n"
            << (subject.workload.is_on_gpu
                    ? concat("GiB on each of ", num_gpus, num_gpus == 1 ? " GPU" : " GPUs")
                    : concat("GiB of the host for ", num_gpus, num_gpus == 1 ? " CPU process" : " CPU ranks"))
            << ":\n\n"
            << to_table(rows, subject.workload) << "\n"
            << explain_table(subject.workload);
  return 0;
}

Json to_json(const estimate::SizeRow& row) {
  Json sets = Json::array();
  for (const estimate::SetOutcome& outcome : row.outcomes) {
    const auto of = [](const estimate::MemoryEstimate& estimate) {
      return Json{{"placement", estimate::describe(estimate.placement)},
                  {"gpu_bytes", estimate.gpu.total()},
                  {"host_bytes", estimate.host.total()}};
    };
    sets.push_back({{"gpu", outcome.set.gpu},
                    {"num_gpus", outcome.set.count},
                    {"advised", of(outcome.advised)},
                    {"advised_fits", outcome.advised_fits},
                    {"first_that_fits", outcome.first ? of(*outcome.first) : Json()}});
  }
  return {{"sizes", row.guide.sizes},
          {"advice", row.guide.advice},
          {"gpu_memory", row.guide.memory},
          {"gpus", row.guide.gpus},
          {"model", row.guide.shape},
          {"num_params", row.num_params},
          {"sets", sets},
          {"lora_gpu_bytes", row.lora.gpu.total()},
          {"reason", row.reason}};
}

int run_table(const EstimateOptions& options) {
  const std::vector<estimate::SizeRow> rows = estimate::compute_table();
  if (options.is_json) {
    Json list = Json::array();
    for (const estimate::SizeRow& row : rows) list.push_back(to_json(row));
    std::cout << list.dump(2) << "\n";
    return 0;
  }
  std::cout << to_table(rows);
  return 0;
}

int run_estimate(const CLI::App& command, const EstimateOptions& options) {
  check_subject(command, options);
  return options.has_table ? run_table(options) : run_subject(options);
}

}  // namespace

void add_estimate_memory_command(CLI::App& app, CommandResult& result) {
  auto options = std::make_shared<EstimateOptions>();
  CLI::App* command =
      app.add_subcommand("estimate-memory", "Say what training takes per GPU and host, at each ZeRO stage and offload");
  command->add_option("RECIPE", options->recipe.recipe, "Recipe file (YAML)");
  command->add_option("SETTING", options->recipe.overrides, "key.path=value: replaces the recipe's setting");
  command->add_option("--model", options->model, "Model directory, hub id, or a config.json alone");
  command->add_option("--params", options->params, "A size instead of a model: 7B, 0.6B, 350M");
  command->add_option("--num-gpus", options->num_gpus, "GPUs of one host (those that are visible, or 1)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 16));
  command->add_option("--batch-size", options->batch_size, "Rows of a micro-batch")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  command->add_option("--length", options->length, "Tokens of a row")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 24))
      ->capture_default_str();
  command
      ->add_option("--lora-rank", options->lora_rank, "LoRA of this rank on all linear layers; without it all weights")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 16));
  add_dtype_option(*command, options->dtype, "Type of weights and arithmetic (default: bf16)");
  auto* recompute = command->add_flag("--recompute", options->recomputes, "gradient_checkpointing: true");
  command->add_flag("--recompute-selectively", options->recomputes_selectively, "gradient_checkpointing: selective")
      ->excludes(recompute);
  command->add_flag("--table", options->has_table, "The model-size guide, each row computed");
  command->add_flag("--json", options->is_json, "One JSON document on stdout, in bytes");
  command->footer(
      "Examples:\n  dsft estimate-memory --params 7B --num-gpus 2\n  dsft estimate-memory recipe.yaml --num-gpus 4\n  "
      "dsft estimate-memory --table");
  command->callback([command, options, &result] { result.exit_code = run_estimate(*command, *options); });
}

}  // namespace dsft::apps
