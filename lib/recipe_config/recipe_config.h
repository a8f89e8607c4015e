#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "config/fault.h"
#include "config/section.h"
#include "config/words.h"
#include "data/data_config.h"
#include "device/device_config.h"
#include "evaluate/eval_config.h"
#include "lora/lora_config.h"
#include "recipe_config/run_settings.h"
#include "rl/grpo_config.h"
#include "spec/model_config.h"
#include "train/training_config.h"
#include "zero/zero_config.h"

namespace dsft::recipe_config {

enum class RecipeKind { kSft, kGrpo };

constexpr auto words_of(RecipeKind) {
  return std::to_array<config::Word<RecipeKind>>(
      {{"sft", RecipeKind::kSft}, {"grpo", RecipeKind::kGrpo}, {"vision_language", {}, "the vision recipe"}});
}

/// A whole recipe; member names are the recipe's keys.
struct RecipeConfig {
  RecipeKind recipe = RecipeKind::kSft;
  std::string output_dir;
  int64_t seed = 42;
  device::DeviceChoice device = device::DeviceChoice::kAuto;
  spec::ModelConfig model;
  std::optional<lora::LoraConfig> lora;  ///< none: full fine-tuning
  data::DataConfig data;
  train::TrainingConfig training;
  zero::ZeroConfig zero;
  evaluate::EvalConfig eval;
  std::optional<rl::GrpoConfig> grpo;     ///< always there in a grpo recipe that was read
  std::optional<std::string> deepspeed;   ///< taken out when the recipe is read, as accelerate
  std::optional<std::string> accelerate;  ///< their values then stand in the other members (imports.h)
  RunSettings run;                        ///< no key

  /// The adapter that the run begins with, if any.
  std::optional<std::string> adapter() const { return lora ? lora->adapter : std::nullopt; }
  /// Whether a reference policy is kept as a copy of all that is trained: where it is more than the base model.
  bool keeps_reference() const;
};

void describe_fields(config::Fields& fields, RecipeConfig& config);

/// What reading a recipe gave. `config` holds the values that could be read; it is to be used only where `faults` is
/// empty.
struct RecipeReading {
  RecipeConfig config;
  std::vector<config::Fault> faults;    ///< sorted by position
  std::vector<config::Fault> warnings;  ///< accepted, but without effect
  config::Written written;              ///< where each key stands
  bool is_ok() const { return faults.empty(); }
};

/// Reads a recipe file and the overrides "key.path=value" of the command line (values in YAML; they replace what the
/// file says). A leading "~/" of a path becomes HOME. Never throws for what is wrong with them: an unreadable file is a
/// fault too. Values are as written: see resolve_defaults.
RecipeReading read_recipe(const std::filesystem::path& file, const std::vector<std::string>& overrides = {});
/// The same from a text; `name` stands in positions.
RecipeReading read_recipe_text(const std::string& text, const std::string& name,
                               const std::vector<std::string>& overrides = {});

/// Reads a recipe or throws one kUsage error that lists every fault. Warnings are appended to `warnings` as
/// "file:line:column: key: message".
RecipeConfig load_recipe(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                         std::vector<std::string>& warnings);

/// Fills the values whose default depends on others: model.dtype (bf16 with CUDA, fp32 without; training.bf16 / fp16
/// where written), training.learning_rate (2e-4 with LoRA, 1e-5 full, 1e-6 in grpo), warmup_steps or warmup_ratio (one
/// of them), eval_steps, metric_for_best_model, greater_is_better, device (auto becomes cuda or cpu), data.num_workers
/// (but in a grpo recipe); and moves training.output_dir and training.seed to the top. `has_cuda`: this process has a
/// CUDA device and code for it; a recipe with device: cpu is resolved as without. Idempotent.
void resolve_defaults(RecipeConfig& config, bool has_cuda);

/// The recipe of a run: load_recipe and resolve_defaults, with what contradicts the model and the adapter on disk among
/// the faults and the adapter's settings in place of the recipe's.
RecipeConfig load_run_recipe(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                             bool has_cuda, std::vector<std::string>& warnings);

/// Every value as YAML: resolved.yaml, which runs again as it stands.
std::string to_yaml(const RecipeConfig& config);
/// Every value as one JSON object.
std::string to_json(const RecipeConfig& config);

}  // namespace dsft::recipe_config
