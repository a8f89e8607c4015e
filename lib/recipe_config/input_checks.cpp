#include "recipe_config/input_checks.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "data/epoch_plan.h"
#include "data/row_file.h"
#include "data/row_format.h"
#include "io/file.h"
#include "io/path_error.h"
#include "io/safetensors.h"
#include "recipe_config/adapter_checks.h"
#include "recipe_config/model_checks.h"
#include "recipe_config/output_checks.h"
#include "recipe_config/prompt_checks.h"
#include "rewards/reward_program.h"
#include "spec/adapter_inventory.h"
#include "spec/adapter_settings.h"
#include "spec/generation_defaults.h"
#include "spec/lora_targets.h"
#include "spec/model_spec.h"
#include "spec/text_folders.h"
#include "spec/weight_check.h"
#include "text/tokenizer.h"

namespace dsft::recipe_config {
namespace {

/// Whether the run looks at evaluation rows.
bool evaluates(const RecipeConfig& config) {
  return config.training.eval_strategy != train::EvalStrategy::kNo || config.training.eval_on_start;
}

constexpr int kSilentRank = -1;  // a logger of any rank but 0 says nothing

/// Runs the checks one after the other and gathers what they throw.
class InputChecker {
 public:
  InputChecker(const RecipeConfig& config, const config::Written& written, const Logger& logger)
      : config_(config), written_(written), logger_(logger) {}

  InputReport run() {
    const bool has_model = attempt("model.path", [&] { check_model(); });
    for (config::Fault& fault : check_output_dir(config_, written_, report_.model_directory))
      report_.faults.push_back({ErrorKind::kUsage, std::move(fault)});
    attempt("training.resume_from_checkpoint", [&] { check_resume_from(config_); });
    const bool has_text = check_text();
    const bool has_train = check_files("data.train", config_.data.train);
    const bool has_eval = check_files("data.eval", config_.data.eval);
    if (has_text) attempt("data.chat_template", [&] { run_checks(check_template_kwargs, folders_.text); });
    if (has_model) {
      attempt("model.path", [&] { check_weights(); });
      const bool has_targets = !config_.lora || check_lora();
      if (has_targets) attempt("lora", [&] { run_checks(check_on_model, spec_); });
    }
    if (config_.recipe == RecipeKind::kGrpo) {
      std::optional<data::TextAssets> assets;
      if (has_text)
        attempt("model.path",
                [&] { assets = data::TextAssets::load(folders_, config_.data.chat_template.value_or("")); });
      check_programs();
      const PromptChecker prompts(config_, assets ? &*assets : nullptr);
      if (has_train) attempt("data.train", [&] { check_prompts(prompts); });
      if (has_eval) attempt("data.eval", [&] { check_evaluation_prompts(prompts); });
    } else if (has_text && has_train && has_eval) {
      check_data();
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
    } catch (const std::filesystem::filesystem_error& error) {
      const ErrorKind kind = key.starts_with("data.") ? ErrorKind::kData : ErrorKind::kCheckpoint;
      add(kind, key, io::path_error(error, kind).message());
    }
    return false;
  }

  /// At the place of a key in the recipe.
  config::Fault place(const std::string& key, const std::string& message) const {
    std::vector<config::Fault> faults, warnings;
    config::Section("", written_, faults, warnings).fault(key, message);
    return faults.front();
  }

  void add(ErrorKind kind, const std::string& key, const std::string& message) {
    report_.faults.push_back({kind, place(key, message)});
  }

  void warn(const std::string& key, const std::string& message) { report_.warnings.push_back(place(key, message)); }

  void check_model() {
    report_.model_directory = spec::find_model(config_.model.path, config_.model.revision);
    folders_ = spec::find_text_folders(report_.model_directory, config_.adapter());
    spec_ = spec::read_model_spec(report_.model_directory);
    report_.hidden_size = spec_.hidden_size;
    for (const std::string& warning : spec_.warnings)
      warn("model.path", concat((report_.model_directory / "config.json").string(), ": ", warning));
    report_.parameters = spec::count_parameters(spec_, /*lora=*/nullptr);
  }

  /// Runs checks that report to a section; their faults are the recipe's own.
  template <typename Checks, typename Input>
  void run_checks(const Checks& checks, const Input& input) {
    std::vector<config::Fault> faults;
    config::Section top("", written_, faults, report_.warnings);
    checks(config_, input, top);
    for (config::Fault& fault : faults) report_.faults.push_back({ErrorKind::kUsage, std::move(fault)});
  }

  /// The tokenizer and the chat templates; false where rows cannot be tokenised.
  bool check_text() {
    const std::string own = config_.data.chat_template.value_or("");
    const bool has_template =
        own.empty() || attempt("data.chat_template", [&] { text::ChatTemplate::load("", own, /*has_tools=*/false); });
    if (report_.model_directory.empty()) return false;
    const std::string key = folders_.text == folders_.model ? "model.path" : "lora.adapter";
    const bool has_tokenizer = attempt(key, [&] { num_token_ids_ = text::Tokenizer::load(folders_.text).num_ids(); });
    const auto load_template = [&](bool has_tools) {
      return attempt(key, [&] { text::ChatTemplate::load(folders_.text, "", has_tools); });
    };
    const bool has_own = !own.empty() || (load_template(false) && load_template(true));
    return has_template && has_tokenizer && has_own;
  }

  void check_weights() {
    const auto add_fault = [&](const std::string& fault) {
      add(ErrorKind::kCheckpoint, "model.path", report_.model_directory.string() + ": " + fault);
    };
    const io::SafetensorsSet weights = io::SafetensorsSet::open(report_.model_directory);
    for (const std::string& fault : spec::check_weights(spec_, weights, num_token_ids_)) add_fault(fault);
    const spec::GenerationDefaults generation = spec::read_generation_config(report_.model_directory, spec_);
    std::vector<int32_t> ids = generation.eos_token_ids;
    if (generation.bos_token_id) ids.push_back(*generation.bos_token_id);
    for (const int32_t id : ids) {
      if (id >= spec_.vocab_size)
        add_fault(concat("generation_config.json or config.json names the token ", id,
                         " as bos or eos, but the embedding has ", spec_.vocab_size, " rows (vocab_size)"));
    }
  }

  bool check_files(const std::string& key, const std::vector<data::DataFile>& files) {
    bool is_ok = true;
    for (const data::DataFile& file : files) {
      is_ok &= attempt(key, [&] { io::open_for_reading(file.path, ErrorKind::kData); });
    }
    return is_ok;
  }

  void check_prompts(const PromptChecker& prompts) {
    double num_rows = 0;
    int64_t num_kept = 0, longest = 0;
    const auto seed = static_cast<uint64_t>(config_.seed);
    for (size_t i = 0; i < config_.data.train.size(); ++i) {
      const data::DataFile& file = config_.data.train[i];
      const PromptCounts counts = prompts.check(file.path, [&](int64_t number) {
        return config_.data.eval_fraction > 0 && data::is_held_out(seed, i, number, config_.data.eval_fraction);
      });
      num_kept += counts.num_kept;
      num_rows += std::round(file.weight * static_cast<double>(counts.num_kept));
      report_.num_eval_prompts += counts.num_held_out;
      report_.longest_prompt = std::max(report_.longest_prompt, counts.longest);
      longest = std::max({longest, counts.longest, counts.longest_held_out});
    }
    warn_of_long_prompts("data.train", longest);
    if (num_kept == 0) fail(ErrorKind::kData, "there is no row to answer");
    report_.num_prompts = static_cast<int64_t>(num_rows);
  }

  void check_programs() {
    for (const rewards::RewardConfig& reward : config_.grpo->judged_by.rewards) {
      const auto* program = std::get_if<rewards::ProgramConfig>(&reward.function);
      const std::string missing = program ? rewards::find_missing_program(program->command) : "";
      if (!missing.empty())
        add(ErrorKind::kData, "grpo.rewards",
            concat("the reward `", reward.metric_name(), "`: there is no program `", missing,
                   "` that can be run here, by this path or on PATH: install it, or write its path in `command`"));
    }
  }

  void warn_of_long_prompts(const std::string& key, int64_t longest) {
    const int64_t positions = spec_.max_position_embeddings, answer = config_.grpo->max_completion_length;
    if (longest > 0 && positions > 0 && longest + answer > positions)
      warn(key, concat("the longest prompt has ", longest, " tokens; with a completion of ", answer,
                       " (grpo.max_completion_length) that is beyond the model's ", positions,
                       " positions (max_position_embeddings): write a smaller one, or leave such rows out"));
  }

  void check_evaluation_prompts(const PromptChecker& prompts) {
    int64_t longest = 0;
    for (const data::DataFile& file : config_.data.eval) {
      const PromptCounts counts = prompts.check(file.path, [](int64_t) { return true; });
      report_.num_eval_prompts += counts.num_held_out;
      longest = std::max(longest, counts.longest_held_out);
    }
    warn_of_long_prompts("data.eval", longest);
    if (report_.num_prompts && evaluates(config_) && report_.num_eval_prompts == 0)
      fail(ErrorKind::kUsage, no_evaluation_rows(config_));
  }

  /// Each list of files by itself first, so that what is wrong with one does not hide what is wrong with the other.
  void check_data() {
    const auto prepare = [&](bool with_train, bool with_eval, const Logger& logger) {
      data::DataConfig data = config_.data;
      if (!with_train) data.train.clear();
      if (!with_eval) data.eval.clear();
      return data::prepare_data(data, {folders_, {}, static_cast<uint64_t>(config_.seed)}, logger);
    };
    const bool has_train = attempt("data.train", [&] { report_.data = prepare(true, false, logger_); });
    if (!config_.data.eval.empty()) {
      report_.data.reset();
      const bool has_eval = attempt("data.eval", [&] { prepare(false, true, logger_); });
      // both are in the cache now, and said
      if (has_train && has_eval) report_.data = prepare(true, true, Logger(kSilentRank));
    }
    if (report_.data && evaluates(config_)) attempt("data.eval", [&] { check_evaluation(*report_.data->eval); });
  }

  void check_evaluation(const data::Dataset& rows) {
    if (rows.size() == 0) fail(ErrorKind::kUsage, no_evaluation_rows(config_));
    const auto& metrics = config_.eval.metrics;
    const bool compares = std::any_of(metrics.begin(), metrics.end(),
                                      [](evaluate::Metric metric) { return metric != evaluate::Metric::kLoss; });
    // rows that eval_fraction holds out are of the kind of data.train's
    const auto& files = config_.data.eval.empty() ? config_.data.train : config_.data.eval;
    if (compares && std::none_of(files.begin(), files.end(), [](const auto& file) { return any_answer(file.path); }))
      fail(ErrorKind::kData,
           "no evaluation row has an assistant turn or a completion, which the generating metrics of ",
           "eval.metrics compare with; name files with such rows in data.eval or leave the metrics out");
  }

  static bool any_answer(const std::string& path) {
    data::RowFile file = data::RowFile::open(path);
    for (data::RawRow row; file.next(row);)
      if (data::has_answer(data::read_row(file.parse(row)))) return true;
    return false;
  }

  /// False where the settings choose nothing that LoRA can adapt.
  bool check_lora() {
    lora::LoraConfig settings = *config_.lora;
    if (settings.adapter && !attempt("lora.adapter", [&] { settings = read_adapter(*config_.lora->adapter); }))
      return false;
    const bool has_targets = attempt(config_.lora->adapter ? "lora.adapter" : "lora.target_modules", [&] {
      report_.num_adapted_modules = static_cast<int64_t>(spec::match_lora_targets(spec_, settings).size());
    });
    if (!has_targets) return false;
    attempt("lora.modules_to_save", [&] { report_.parameters = spec::count_parameters(spec_, &settings); });
    return true;
  }

  lora::LoraConfig read_adapter(const std::string& directory) {
    const spec::AdapterSettings adapter = spec::read_adapter_settings(directory);
    for (const std::string& warning : adapter.warnings) warn("lora.adapter", warning);
    const io::SafetensorsSet weights = io::SafetensorsSet::open(directory, "adapter_model");
    for (const std::string& fault : spec::check_adapter(inventory_of(adapter.lora, directory), weights)) {
      add(ErrorKind::kCheckpoint, "lora.adapter", directory + ": " + fault);
    }
    for (config::Fault& fault : check_adapter_keys(config_, written_, adapter.lora, spec_))
      report_.faults.push_back({ErrorKind::kUsage, std::move(fault)});
    return adapter.lora;
  }

  /// Settings of an adapter that fit no module of this model are the adapter's fault, not the recipe's.
  std::vector<spec::AdapterTensor> inventory_of(const lora::LoraConfig& adapter, const std::string& directory) const {
    try {
      return spec::adapter_inventory(spec_, adapter);
    } catch (const Error& error) {
      fail(ErrorKind::kCheckpoint, directory, " does not fit the model: ", error.full_message());
    }
  }

  const RecipeConfig& config_;
  const config::Written& written_;
  const Logger& logger_;
  spec::ModelSpec spec_;
  spec::TextFolders folders_;
  std::optional<int64_t> num_token_ids_;  // where the tokenizer can be read
  InputReport report_;
};

}  // namespace

InputReport check_inputs(const RecipeConfig& config, const config::Written& written, const Logger& logger) {
  return InputChecker(config, written, logger).run();
}

std::string no_evaluation_rows(const RecipeConfig& config) {
  if (config.data.eval_fraction > 0)
    return concat("there is no row to evaluate on: data.eval_fraction ", config.data.eval_fraction,
                  " holds none of data.train's rows out; write a larger one, or files in data.eval");
  return "there are no rows to evaluate on: write data.eval (files) or data.eval_fraction (a share of data.train)";
}

int64_t count_steps(const RecipeConfig& config, const data::Dataset& train, int64_t num_ranks) {
  const auto& training = config.training;
  if (training.max_steps > 0) return training.max_steps;
  const auto options = data::make_plan_options(config.data, train, static_cast<uint64_t>(config.seed));
  const int64_t items_per_update =
      training.per_device_train_batch_size * training.gradient_accumulation_steps * num_ranks;
  return std::max<int64_t>(1, data::count_updates(train, options, training.num_train_epochs, items_per_update));
}

}  // namespace dsft::recipe_config
