#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "estimate/finding.h"
#include "estimate/memory.h"
#include "estimate/sampling_advice.h"

namespace dsft::estimate {

/// A run whose device had too little memory.
struct ShortOfMemory {
  Workload workload;
  Placement placement;
  int64_t measured_peak_bytes = 0;         ///< until then: of tensors on a GPU, of the process on a CPU
  int64_t device_bytes = 0;                ///< memory of the device, or this rank's share of its host's
  std::optional<int64_t> host_bytes = {};  ///< what offloads may take there, the run's own included; none: not known
  bool finds_batch_size = false;           ///< training.auto_find_batch_size, which stage 3 does not go with
};

/// One or more settings that take less memory.
struct Remedy {
  std::string settings;     ///< as the recipe writes it: "training.gradient_checkpointing: true"
  std::string cost;         ///< what it costs instead
  int64_t saved_bytes = 0;  ///< on the device
  int64_t peak_bytes = 0;   ///< the peak then, on the device
  bool fits = false;
};

/// What to try, what saves most first: a higher stage, offloads (from a GPU), recomputation, half a micro-batch, LoRA
/// in place of all weights. The peaks are estimates; where the measured peak lies above the estimate of the run as it
/// is, by so much more. Where no single one fits, the last entry is as many of them together, in that order, as it
/// takes to fit, if they can.
std::vector<Remedy> remedies(const ShortOfMemory& run);

/// The estimate by columns beside the measured peak, and the remedies, as lines of text.
std::string explain_out_of_memory(const ShortOfMemory& run);

/// A run that has ended, with the parts of a typical step in seconds; of a GRPO run, of its update alone.
struct MeasuredRun {
  Workload workload;
  Placement placement;
  bool overlaps_communication = true;  ///< zero.overlap_comm
  int64_t gradient_accumulation_steps = 1;
  std::optional<MeasuredSampling> sampling = {};  ///< of a GRPO run
  int64_t peak_bytes = 0;                         ///< of tensors on a GPU, of the process on a CPU
  int64_t device_bytes = 0;                       ///< memory of the device
  double step_s = 0;                              ///< all of it
  double forward_s = 0;
  double optimizer_s = 0;      ///< clipping and the update, with what an offload copies then
  double communication_s = 0;  ///< waiting for other ranks that no computation hides
  double data_s = 0;           ///< waiting for batches
};

/// What slowed a run, the costliest first: an offload, recomputation or stage that its memory does not ask for, talk
/// that is not beside computation, waiting for data, room for a larger micro-batch; of a GRPO run what its update and
/// its sampling (sampling_findings) show. Empty: nothing was found.
std::vector<Finding> findings(const MeasuredRun& run);

}  // namespace dsft::estimate
