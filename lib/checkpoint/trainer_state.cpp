#include "checkpoint/trainer_state.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/file.h"
#include "io/json.h"
#include "spec/json_fields.h"

namespace dsft::checkpoint {

namespace {

constexpr const char* kFileName = "trainer_state.json";
constexpr int64_t kLargest = int64_t{1} << 60;
// millions of logged updates
constexpr io::JsonLimits kLimits{.max_size_bytes = uint64_t{4} << 30, .max_values = 400'000'000};

template <typename T>
nlohmann::json or_null(const std::optional<T>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json(nullptr);
}

std::string format_list(const std::vector<std::string>& entries) {
  if (entries.empty()) return "[]";
  std::string text = "[";
  for (const std::string& entry : entries) text += (text.size() > 1 ? ",\n    " : "\n    ") + entry;
  return text + "\n  ]";
}

}  // namespace

void write_trainer_state(const std::filesystem::path& directory, const TrainerState& state) {
  const nlohmann::json document = {
      {"best_global_step", or_null(state.best_global_step)},
      {"best_metric", or_null(state.best_metric)},
      {"best_model_checkpoint", or_null(state.best_model_checkpoint)},
      {"epoch", state.epoch},
      {"eval_steps", state.eval_steps},
      {"global_step", state.global_step},
      {"is_hyper_param_search", false},
      {"is_local_process_zero", true},
      {"is_world_process_zero", true},
      {"log_history", nullptr},
      {"logging_steps", state.logging_steps},
      {"max_steps", state.max_steps},
      // the Trainer knows whole epochs only
      {"num_train_epochs", static_cast<int64_t>(std::ceil(state.num_train_epochs))},
      {"num_input_tokens_seen", state.num_input_tokens_seen},
      {"save_steps", state.save_steps},
      {"stateful_callbacks", nlohmann::json::object()},
      {"total_flos", 0.0},
      {"train_batch_size", state.train_batch_size},
      {"trial_name", nullptr},
      {"trial_params", nullptr},
  };
  // the entries are JSON already, and a long run has many: they take their place in the text as they are
  std::string text = document.dump(2) + "\n";
  const std::string empty = "\"log_history\": null";
  text.replace(text.find(empty), empty.size(), "\"log_history\": " + format_list(state.log_history));
  io::write_text_file(directory / kFileName, text);
}

TrainerState read_trainer_state(const std::filesystem::path& directory) {
  const std::filesystem::path file = directory / kFileName;
  nlohmann::ordered_json ordered = io::read_ordered_json_file(file, ErrorKind::kCheckpoint, kLimits);
  if (!ordered.is_object()) fail(ErrorKind::kCheckpoint, file.string(), " must hold a JSON object.");
  TrainerState state;
  if (const auto history = ordered.find("log_history"); history != ordered.end()) {
    for (const auto& entry : *history) state.log_history.push_back(entry.dump());
    ordered.erase("log_history");
  }
  const nlohmann::json document = ordered;
  std::vector<std::string> faults;
  const spec::JsonFields fields(document, faults);
  state.epoch = fields.number("epoch", 0, 0, 1e12);
  state.global_step = fields.integer("global_step", 0, 0, kLargest);
  state.max_steps = fields.integer("max_steps", 0, -1, kLargest);
  state.num_train_epochs = fields.number("num_train_epochs", 0, 0, 1e12);
  state.logging_steps = fields.integer("logging_steps", 0, 0, kLargest);
  state.eval_steps = fields.integer("eval_steps", 0, 0, kLargest);
  state.save_steps = fields.integer("save_steps", 0, 0, kLargest);
  state.train_batch_size = fields.integer("train_batch_size", 0, 0, kLargest);
  state.num_input_tokens_seen = fields.integer("num_input_tokens_seen", 0, 0, kLargest);
  state.best_metric = fields.optional_number("best_metric", -1e300, 1e300);
  if (fields.has("best_global_step")) state.best_global_step = fields.integer("best_global_step", 0, 0, kLargest);
  if (fields.has("best_model_checkpoint")) state.best_model_checkpoint = fields.text("best_model_checkpoint", "");
  spec::fail_on_faults(faults, file);
  return state;
}

}  // namespace dsft::checkpoint
