#include <torch/types.h>

#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>

#include "comm/make_communicator.h"
#include "comm/placement.h"
#include "device/cuda_device.h"
#include "device/device.h"
#include "dsft-trainer/tasks.h"
#include "recipe/build_evaluations.h"
#include "recipe/build_parts.h"
#include "recipe/build_policy_evaluation.h"

namespace dsft::apps {
namespace {

void print(const std::map<std::string, double>& metrics, bool is_json) {
  if (!is_json) {
    for (const auto& [name, value] : metrics) std::cout << name << "  " << value << "\n";
    return;
  }
  nlohmann::ordered_json object;
  for (const auto& [name, value] : metrics) {
    if (name.starts_with("num_"))
      object[name] = static_cast<int64_t>(value);
    else if (std::isfinite(value))
      object[name] = value;
    else
      object[name] = nullptr;  // JSON has no NaN
  }
  std::cout << object.dump(2) << "\n";
}

/// Which weights are judged: a recipe that trains an adapter does not name the one that it left.
std::string describe_weights(const recipe_config::RecipeConfig& config) {
  if (!config.lora)
    return concat("weights: ", config.model.path, "; model.path=", config.output_dir,
                  " evaluates the model that this recipe trains");
  if (config.lora->adapter)
    return concat("weights: ", config.model.path, " with the adapter in ", *config.lora->adapter);
  return concat("weights: ", config.model.path, " as it is, without an adapter; lora.adapter=", config.output_dir,
                " evaluates the one that this recipe trains");
}

/// All that is asked and judged, before the model is loaded.
std::vector<std::unique_ptr<train::Evaluation>> build_evaluations(const recipe_config::RecipeConfig& config,
                                                                  train::RunContext& context) {
  const spec::TextFolders folders =
      spec::find_text_folders(spec::find_model(config.model.path, config.model.revision), config.adapter());
  if (config.recipe != recipe_config::RecipeKind::kGrpo)
    return recipe::build_evaluations(config, folders, recipe::prepare_recipe_data(config, folders, context), context);
  auto assets =
      std::make_shared<const data::TextAssets>(data::TextAssets::load(folders, config.data.chat_template.value_or("")));
  const auto start_rewards = [&] {
    auto scorer =
        std::make_shared<rewards::Scorer>(config.grpo->judged_by.rewards, rewards::ScorerOptions(), context.logger);
    scorer->wait_until_ready();
    return scorer;
  };
  std::vector<std::unique_ptr<train::Evaluation>> evaluations;
  evaluations.push_back(recipe::build_policy_evaluation(config, std::move(assets), start_rewards,
                                                        recipe::load_pool(config, context.logger),
                                                        /*completions=*/nullptr, context));
  return evaluations;
}

// The loss is measured on all rows, the generating metrics on eval.num_samples of them: where the counts differ, the
// latter have names of their own.
void merge(std::map<std::string, double> part, std::map<std::string, double>& metrics) {
  for (const auto& [name, value] : part) {
    const auto [found, is_new] = metrics.emplace(name, value);
    if (!is_new && found->second != value) metrics[name + "_generated"] = value;
  }
}

}  // namespace

int run_eval(const EvalOptions& options, const Logger& logger) {
  const comm::Placement placement = comm::read_placement();
  std::vector<std::string> warnings;
  recipe_config::RecipeConfig config =
      recipe_config::load_recipe(options.recipe.recipe, options.recipe.overrides, warnings);
  for (const std::string& warning : warnings) logger.warn(warning);
  if (options.compute.dtype) config.model.dtype = options.compute.dtype;
  if (options.compute.device != device::DeviceChoice::kAuto) config.device = options.compute.device;
  recipe_config::resolve_defaults(config, device::has_cuda());
  const at::Device device = device::choose_device(config.device, placement.gpu(device::cuda::device_count()));
  const auto communicator = comm::make_communicator();
  train::RunContext context{*communicator, device, static_cast<uint64_t>(config.seed), config.output_dir, logger};
  if (config.data.eval_fraction == 0) config.data.train.clear();  // an adapter can be judged where they are not
  const auto evaluations = build_evaluations(config, context);
  // An adapter that is still to be trained is the base model; one to continue from is judged as it stands.
  const recipe::LoadedModel loaded = recipe::load_model({.path = config.model.path,
                                                         .revision = config.model.revision,
                                                         .adapter = config.adapter(),
                                                         .dtype = recipe::torch_dtype(config.model.dtype, device),
                                                         .device = device},
                                                        logger);
  logger.info(describe_weights(config));
  std::map<std::string, double> metrics;
  for (const auto& evaluation : evaluations) {
    logger.info("evaluating: ", evaluation->name());
    const auto part = evaluation->run(*loaded.model, *communicator);
    if (!part) fail(ErrorKind::kData, evaluation->fault().value_or("the evaluation gave nothing"));
    merge(*part, metrics);
  }
  if (communicator->rank() == 0) print(metrics, options.is_json);
  return 0;
}

}  // namespace dsft::apps
