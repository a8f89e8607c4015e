#pragma once

#include <map>
#include <string>

#include "train/observer.h"

namespace dsft::train {

/// A line of metrics.jsonl, also an entry of trainer_state.json's log_history: one JSON object.
std::string format_metrics(const StepReport& report);
std::string format_metrics(int64_t step, double epoch, const std::map<std::string, double>& metrics);

}  // namespace dsft::train
