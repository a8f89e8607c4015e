#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace dsft::apps {

/// What a task failed with, for the user.
struct Failure {
  std::string message;
  ErrorKind kind = ErrorKind::kInternal;
  bool is_out_of_memory = false;
};

/// Describes the exception that is being handled: what dsft throws, exhausted memory of the GPU or the host, bugs.
/// `memory_advice`: the line on what takes less memory, where LibTorch or the host had none left.
Failure describe_current_exception(std::string_view memory_advice);

/// For training, at any stage.
inline constexpr std::string_view kTrainingMemoryAdvice =
    "In training, try a smaller training.per_device_train_batch_size or data.max_length, or "
    "training.gradient_checkpointing: selective or true.";
/// The same for a recipe that may write auto_find_batch_size: below stage 3.
inline constexpr std::string_view kAutomaticMemoryAdvice =
    "In training, try a smaller training.per_device_train_batch_size (auto_find_batch_size: true looks for one) or "
    "data.max_length, or training.gradient_checkpointing: selective or true.";

/// The same for a grpo recipe, whose rows nothing cuts.
inline constexpr std::string_view kSamplingMemoryAdvice =
    "In training, try a smaller training.per_device_train_batch_size with as many times the "
    "gradient_accumulation_steps, a smaller grpo.max_completion_length, shorter prompts, or "
    "training.gradient_checkpointing: true.";

}  // namespace dsft::apps
