#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace dsft::checkpoint {

/// trainer_state.json in the Hugging Face Trainer's form.
struct TrainerState {
  double epoch = 0;
  int64_t global_step = 0;
  int64_t max_steps = 0;
  double num_train_epochs = 0;
  int64_t logging_steps = 0;
  int64_t eval_steps = 0;
  int64_t save_steps = 0;
  int64_t train_batch_size = 0;
  int64_t num_input_tokens_seen = 0;
  std::optional<double> best_metric;
  std::optional<int64_t> best_global_step;
  std::optional<std::string> best_model_checkpoint;
  std::vector<std::string> log_history;  ///< JSON objects, each on one line
};

void write_trainer_state(const std::filesystem::path& directory, const TrainerState& state);

/// Throws kCheckpoint for a missing or faulty file.
TrainerState read_trainer_state(const std::filesystem::path& directory);

}  // namespace dsft::checkpoint
