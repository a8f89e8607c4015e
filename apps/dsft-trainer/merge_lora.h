#pragma once

#include "base/logger.h"
#include "checkpoint/merge_lora.h"
#include "options/merge_lora_options.h"

namespace dsft::apps {

/// `dsft merge-lora`. `compare_logits` runs with --verify, after the weights were compared. Returns the exit code.
int run_merge_lora(const MergeLoraOptions& options, const Logger& logger,
                   const checkpoint::CompareLogits& compare_logits = {});

}  // namespace dsft::apps
