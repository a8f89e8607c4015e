#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "estimate/memory.h"
#include "estimate/size_table.h"

namespace dsft::apps {

/// {stage, offload_optimizer, offload_param, num_gpus, gpu_bytes, host_bytes, outside_of_steps_bytes, fits, deepspeed};
/// `fits`: names of GPUs, null on CPU ranks; `deepspeed`: what its estimators say of plain full fine-tuning, else null.
nlohmann::ordered_json memory_json(const estimate::MemoryEstimate& estimate, const estimate::Workload& workload);

/// A row for each estimate, in GiB, a column for each part.
std::string to_table(const std::vector<estimate::MemoryEstimate>& rows, const estimate::Workload& workload);

/// What the columns of to_table mean, in a few lines.
std::string explain_table(const estimate::Workload& workload);

/// The model-size guide: each row, what was computed beside it, and the reason.
std::string to_table(const std::vector<estimate::SizeRow>& rows);

/// One line on one estimate: totals, and the GPUs that it fits.
std::string to_line(const estimate::MemoryEstimate& estimate, const estimate::Workload& workload);

}  // namespace dsft::apps
