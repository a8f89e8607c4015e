#pragma once

#include <vector>

#include "batch/batch.h"
#include "train/job.h"
#include "train/observer.h"
#include "train/run_context.h"

namespace dsft::train {

/// So many updates in a row whose loss or gradients are not finite end a run.
inline constexpr int64_t kMaxBadSteps = 5;

/// Ends a run after the last of them: leaves output_dir/diagnostics-<rank>.json with the samples of this rank's
/// micro-batches and its parameters that are not finite, and throws kData. Collective.
[[noreturn]] void fail_not_finite(const StepReport& report, const std::vector<Batch>& micro_batches, const Job& job,
                                  const RunContext& context);

}  // namespace dsft::train
