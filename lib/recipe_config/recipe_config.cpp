#include "recipe_config/recipe_config.h"

#include <algorithm>
#include <cctype>
#include <thread>
#include <utility>

#include "base/error.h"
#include "config/overrides.h"
#include "config/reader.h"
#include "config/yaml_reader.h"
#include "config/yaml_writer.h"
#include "recipe_config/adapter_checks.h"
#include "recipe_config/home_paths.h"
#include "recipe_config/imported_file.h"
#include "recipe_config/imports.h"
#include "recipe_config/model_checks.h"
#include "recipe_config/output_checks.h"
#include "recipe_config/recipe_checks.h"
#include "recipe_config/recipe_defaults.h"
#include "recipe_config/unknown_key.h"
#include "spec/adapter_settings.h"

namespace dsft::recipe_config {
namespace {

/// Which factors of train_batch_size are written, by the recipe or the file that it came from.
void note_written_batch(RecipeConfig& config, const config::Written& written) {
  if (!config.run.train_batch_size) return;
  config.run.train_batch_size->has_micro_batch = written.contains("training.per_device_train_batch_size");
  config.run.train_batch_size->has_accumulation = written.contains("training.gradient_accumulation_steps");
}

RecipeReading read_recipe_node(config::Node root, const std::string& name, std::vector<config::Fault> faults,
                               const std::vector<std::string>& overrides) {
  RecipeReading reading;
  reading.faults = std::move(faults);
  if (root.is_null() && !reading.faults.empty()) return reading;
  if (root.is_null()) {
    root.kind = config::Node::Kind::kMap;
    root.position = {name, 1, 1};
  }
  if (!root.is_map()) {
    reading.faults.push_back({root.position, "", "a recipe is a map of keys, not " + config::describe(root)});
    return reading;
  }
  config::apply_overrides(root, overrides, reading.faults);
  config::ReadingState state;
  apply_imports(root, reading.config.run, state.faults, state.warnings);
  apply_recipe_defaults(root, reading.config);
  config::Fields fields;
  describe_fields(fields, reading.config);
  config::read_fields(root, fields, "", explain_unknown_key, state);
  if (reading.config.recipe == RecipeKind::kGrpo && !reading.config.grpo) reading.config.grpo.emplace();
  expand_home(reading.config);
  note_written_batch(reading.config, state.written);
  validate(reading.config, state.written, state.faults, state.warnings);
  reading.faults.insert(reading.faults.end(), state.faults.begin(), state.faults.end());
  reading.warnings = std::move(state.warnings);
  reading.written = std::move(state.written);
  config::sort_faults(reading.faults);
  config::sort_faults(reading.warnings);
  return reading;
}

RecipeReading unreadable(const std::string& name, const std::string& message) {
  RecipeReading reading;
  reading.faults.push_back({{name, 0, 0}, "", message});
  return reading;
}

config::Node to_node(RecipeConfig config) {
  config::Fields fields;
  describe_fields(fields, config);
  return config::write_fields(fields);
}

bool ends_with_loss(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name.ends_with("loss") || name.ends_with("perplexity");
}

void resolve_dtype(RecipeConfig& config) {
  auto& training = config.training;
  if (!config.model.dtype && (training.bf16 || training.fp16)) {
    const bool is_bf16 = training.bf16.value_or(false);
    const bool is_fp16 = training.fp16.value_or(false);
    // written, and none of them true: TrainingArguments' way to ask for fp32
    config.model.dtype = is_bf16   ? spec::ComputeDtype::kBf16
                         : is_fp16 ? spec::ComputeDtype::kFp16
                                   : spec::ComputeDtype::kFp32;
  }
  if (!config.model.dtype) {
    const bool on_cuda = config.device == device::DeviceChoice::kCuda;
    config.model.dtype = on_cuda ? spec::ComputeDtype::kBf16 : spec::ComputeDtype::kFp32;
  }
  training.bf16.reset();
  training.fp16.reset();
}

void resolve_evaluation(train::TrainingConfig& training, RecipeKind recipe) {
  if (training.eval_strategy == train::EvalStrategy::kSteps) training.eval_steps = eval_steps_of(training);
  if (!tracks_best(training)) return;
  if (!training.metric_for_best_model) training.metric_for_best_model = default_best_metric(recipe);
  if (!training.greater_is_better) training.greater_is_better = !ends_with_loss(*training.metric_for_best_model);
}

RecipeReading read_or_throw(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                            std::vector<std::string>& warnings) {
  RecipeReading reading = read_recipe(file, overrides);
  for (const config::Fault& warning : reading.warnings) warnings.push_back(config::to_string(warning));
  config::throw_faults(reading.faults);
  return reading;
}

}  // namespace

void describe_fields(config::Fields& fields, RecipeConfig& config) {
  fields.add("recipe", config.recipe, "What to do").is_required = true;
  fields
      .add("output_dir", config.output_dir,
           "Folder that the run writes; not that of the model or adapter that it reads")
      .default_note = "required, here or in `training`";
  fields.add("seed", config.seed, "Seed of every random number", config::at_least(0));
  fields.add("device", config.device, "Where to compute; auto: CUDA where there is one");
  fields.section("model", config.model, "The checkpoint");
  fields.section("lora", config.lora, "LoRA; no section: full fine-tuning");
  fields.section("data", config.data, "Rows and how they become tokens");
  fields.section("training", config.training, "The loop, by transformers.TrainingArguments' names");
  fields.section("zero", config.zero, "DeepSpeed's zero_optimization");
  fields.section("eval", config.eval, "What evaluation measures");
  fields.section("grpo", config.grpo, "GRPO, by trl.GRPOConfig's names");
  fields.add("deepspeed", config.deepspeed, "A DeepSpeed JSON file, read into the other keys (docs/deepspeed.md)");
  fields.add("accelerate", config.accelerate, "A file of `accelerate config`, likewise");
  fields.later("vision", "the vision recipe");
}

RecipeReading read_recipe_text(const std::string& text, const std::string& name,
                               const std::vector<std::string>& overrides) {
  std::vector<config::Fault> faults;
  config::Node root = config::read_yaml(text, name, faults);
  return read_recipe_node(std::move(root), name, std::move(faults), overrides);
}

bool RecipeConfig::keeps_reference() const {
  if (recipe != RecipeKind::kGrpo || !grpo || grpo->beta == 0) return false;
  return !lora || lora->adapter || !lora->modules_to_save.empty() || lora->bias != lora::Bias::kNone;
}

RecipeReading read_recipe(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  std::string problem;
  const std::optional<std::string> text = read_bounded_text(file.string(), problem);
  if (!text) return unreadable(file.string(), concat(problem, "; give a recipe's YAML file"));
  return read_recipe_text(*text, file.string(), overrides);
}

RecipeConfig load_recipe(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                         std::vector<std::string>& warnings) {
  return read_or_throw(file, overrides, warnings).config;
}

void resolve_defaults(RecipeConfig& config, bool has_cuda) {
  auto& training = config.training;
  if (training.output_dir) config.output_dir = *std::exchange(training.output_dir, std::nullopt);
  if (training.seed) config.seed = *std::exchange(training.seed, std::nullopt);
  if (config.device == device::DeviceChoice::kAuto) {
    config.device = has_cuda ? device::DeviceChoice::kCuda : device::DeviceChoice::kCpu;
  }
  resolve_dtype(config);
  if (training.lr_scheduler_type == optim::SchedulerType::kOneCycle && !training.learning_rate)
    training.learning_rate = training.lr_scheduler_kwargs.cycle_max_lr;
  const bool is_grpo = config.recipe == RecipeKind::kGrpo;
  if (!training.learning_rate) training.learning_rate = is_grpo ? 1e-6 : config.lora ? 2e-4 : 1e-5;
  if (!training.warmup_steps && !training.warmup_ratio) {
    const bool has_warmup = !is_grpo && training.lr_scheduler_type != optim::SchedulerType::kConstant &&
                            training.lr_scheduler_type != optim::SchedulerType::kOneCycle;
    training.warmup_ratio = has_warmup ? 0.03 : 0.0;
  }
  resolve_evaluation(training, config.recipe);
  if (!is_grpo && !config.data.num_workers)  // which a grpo recipe has no use for
    config.data.num_workers = std::max<int64_t>(1, std::thread::hardware_concurrency());
}

RecipeConfig load_run_recipe(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                             bool has_cuda, std::vector<std::string>& warnings) {
  const RecipeReading reading = read_or_throw(file, overrides, warnings);
  RecipeConfig config = reading.config;
  const std::filesystem::path model = spec::find_model(config.model.path, config.model.revision);
  const spec::ModelSpec spec = spec::read_model_spec(model);
  std::vector<config::Fault> faults = check_output_dir(config, reading.written, model);
  if (config.lora && config.lora->adapter) {
    const lora::LoraConfig adapter = spec::read_adapter_settings(*config.lora->adapter).lora;
    for (config::Fault& fault : check_adapter_keys(config, reading.written, adapter, spec))
      faults.push_back(std::move(fault));
  }
  std::vector<config::Fault> of_model;
  config::Section top("", reading.written, faults, of_model);
  check_on_model(config, spec, top);
  check_template_kwargs(config, spec::find_text_folders(model, config.adapter()).text, top);
  for (const config::Fault& warning : of_model) warnings.push_back(config::to_string(warning));
  config::throw_faults(faults);
  check_resume_from(config);
  adopt_adapter(config);
  resolve_defaults(config, has_cuda);
  resolve_auto_sizes(config, spec.hidden_size);
  return config;
}

std::string to_yaml(const RecipeConfig& config) {
  return config::write_yaml(to_node(config));
}

std::string to_json(const RecipeConfig& config) {
  return config::write_json(to_node(config));
}

}  // namespace dsft::recipe_config
