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

template <typename T>
nlohmann::json or_null(const std::optional<T>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json(nullptr);
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
      {"log_history", io::parse_json(state.log_history, "log_history", ErrorKind::kInternal)},
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
  io::write_text_file(directory / kFileName, document.dump(2) + "\n");
}

TrainerState read_trainer_state(const std::filesystem::path& directory) {
  const std::filesystem::path file = directory / kFileName;
  const nlohmann::json document = io::read_json_file(file);
  if (!document.is_object()) fail(ErrorKind::kCheckpoint, file.string(), " must hold a JSON object.");
  std::vector<std::string> faults;
  const spec::JsonFields fields(document, faults);
  TrainerState state;
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
  if (fields.has("log_history")) state.log_history = fields.at("log_history").dump();
  spec::fail_on_faults(faults, file);
  return state;
}

}  // namespace dsft::checkpoint
