#include "recipe_config/input_checks.h"

#include <cmath>
#include <functional>

#include "data/epoch_plan.h"
#include "io/safetensors.h"
#include "spec/adapter_inventory.h"
#include "spec/adapter_settings.h"
#include "spec/lora_targets.h"
#include "spec/model_spec.h"
#include "spec/weight_check.h"
#include "text/tokenizer.h"

namespace dsft::recipe_config {
namespace {

/// Runs the checks one after the other and gathers what they throw.
class InputChecker {
 public:
  InputChecker(const RecipeConfig& config, const config::Written& written, const Logger& logger)
      : config_(config), written_(written), logger_(logger) {}

  InputReport run() {
    const bool has_model = attempt("model.path", [&] { check_model(); });
    if (has_model) {
      if (config_.lora) check_lora();
      attempt("data.train", [&] { report_.data = prepare_data(); });
    }
    return std::move(report_);
  }

 private:
  /// Runs a check; what it throws becomes a fault at this key.
  bool attempt(const std::string& key, const std::function<void()>& check) {
    try {
      check();
      return true;
    } catch (const Error& error) {
      add(error.kind(), key, error.full_message());
      return false;
    }
  }

  void add(ErrorKind kind, const std::string& key, const std::string& message) {
    std::vector<config::Fault> faults;
    std::vector<config::Fault> warnings;
    config::Section("", written_, faults, warnings).fault(key, message);
    report_.faults.push_back({kind, faults.front()});
  }

  void check_model() {
    report_.model_directory = spec::find_model(config_.model.path, config_.model.revision);
    spec_ = spec::read_model_spec(report_.model_directory);
    report_.parameters = spec::count_parameters(spec_, /*lora=*/nullptr);
    const text::Tokenizer tokenizer = text::Tokenizer::load(report_.model_directory);
    const io::SafetensorsSet weights = io::SafetensorsSet::open(report_.model_directory);
    for (const std::string& fault : spec::check_weights(spec_, weights, tokenizer.num_ids())) {
      add(ErrorKind::kCheckpoint, "model.path", report_.model_directory.string() + ": " + fault);
    }
  }

  void check_lora() {
    lora::LoraConfig settings = *config_.lora;
    if (settings.adapter) {
      attempt("lora.adapter", [&] { settings = read_adapter(*settings.adapter); });
    }
    const bool has_targets = attempt("lora.target_modules", [&] {
      report_.num_adapted_modules = static_cast<int64_t>(spec::match_lora_targets(spec_, settings).size());
    });
    if (!has_targets) return;
    attempt("lora.modules_to_save", [&] { report_.parameters = spec::count_parameters(spec_, &settings); });
  }

  lora::LoraConfig read_adapter(const std::string& directory) {
    const spec::AdapterSettings adapter = spec::read_adapter_settings(directory);
    const io::SafetensorsSet weights = io::SafetensorsSet::open(directory, "adapter_model");
    for (const std::string& fault : spec::check_adapter(spec::adapter_inventory(spec_, adapter.lora), weights)) {
      add(ErrorKind::kCheckpoint, "lora.adapter", directory + ": " + fault);
    }
    return adapter.lora;
  }

  data::PreparedData prepare_data() const {
    return data::prepare_data(config_.data, {report_.model_directory, {}, static_cast<uint64_t>(config_.seed)},
                              logger_);
  }

  const RecipeConfig& config_;
  const config::Written& written_;
  const Logger& logger_;
  spec::ModelSpec spec_;
  InputReport report_;
};

}  // namespace

InputReport check_inputs(const RecipeConfig& config, const config::Written& written, const Logger& logger) {
  return InputChecker(config, written, logger).run();
}

int64_t count_steps(const RecipeConfig& config, const data::Dataset& train, int64_t num_ranks) {
  const auto& training = config.training;
  if (training.max_steps > 0) return training.max_steps;
  const auto options = data::make_plan_options(config.data, train, static_cast<uint64_t>(config.seed));
  const auto num_items = static_cast<int64_t>(data::plan_epoch(train, options, 0).size());
  const int64_t items_per_step =
      training.per_device_train_batch_size * training.gradient_accumulation_steps * num_ranks;
  const int64_t steps_per_epoch = (num_items + items_per_step - 1) / items_per_step;
  return static_cast<int64_t>(std::ceil(training.num_train_epochs * static_cast<double>(steps_per_epoch)));
}

}  // namespace dsft::recipe_config
