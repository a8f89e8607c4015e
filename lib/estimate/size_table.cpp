#include "estimate/size_table.h"

#include "base/error.h"
#include "estimate/gpus.h"
#include "estimate/model_shapes.h"

namespace dsft::estimate {
namespace {

constexpr Placement kStage2{.stage = 2};
constexpr Placement kStage2Offload{.stage = 2, .offloads_optimizer = true};
constexpr Placement kStage3{.stage = 3};
constexpr Placement kStage3Offload{.stage = 3, .offloads_optimizer = true, .offloads_parameters = true};

bool fits(const MemoryEstimate& estimate, const NamedGpu& gpu) {
  return estimate.gpu.total() <= usable_bytes(gpu);
}

Workload workload_of_table(const spec::ModelSpec& shape) {
  return {.model = shape, .lora = std::nullopt, .recompute = train::GradientCheckpointing::kTrue};
}

SetOutcome compute_outcome(const GuideRow& guide, const GpuSet& set, const Workload& workload) {
  const NamedGpu& gpu = named_gpu(set.gpu);
  Placement advised = guide.placement;
  advised.num_gpus = set.count;
  SetOutcome outcome{.set = set, .advised = estimate_memory(workload, advised), .first = std::nullopt};
  outcome.advised_fits = fits(outcome.advised, gpu);
  for (const Placement& placement : all_placements(set.count)) {
    const MemoryEstimate estimate = estimate_memory(workload, placement);
    if (!fits(estimate, gpu)) continue;
    outcome.first = estimate;
    break;
  }
  return outcome;
}

std::string to_text(const GpuSet& set) {
  return concat(set.count, "x ", set.gpu);
}

std::string host_part(const MemoryEstimate& estimate) {
  return estimate.host.total() > 0 ? concat(" and ", to_gib(estimate.host.total()), " of the host") : std::string();
}

std::string outside_part(const MemoryEstimate& estimate) {
  return estimate.outside > 0 ? concat(" (", to_gib(estimate.outside), " of it only outside of steps)") : std::string();
}

std::string reason_of(const SetOutcome& outcome, const MemoryEstimate& lora) {
  const NamedGpu& gpu = named_gpu(outcome.set.gpu);
  const std::string usable = concat(to_gib(usable_bytes(gpu)), " of ", gpu.memory_gib);
  std::string text =
      concat(to_text(outcome.set), ": ", describe(outcome.advised.placement), " takes ",
             to_gib(outcome.advised.gpu.total()), " a GPU", outside_part(outcome.advised), host_part(outcome.advised),
             ", ", outcome.advised_fits ? "which fits" : "which does not fit", " (usable: ", usable, "). ");
  if (!outcome.first) {
    text += "No stage or offload fits full fine-tuning there";
    return text + (lora.gpu.total() <= usable_bytes(gpu)
                       ? concat("; LoRA fits on one of these GPUs with ", to_gib(lora.gpu.total()), ".")
                       : concat(", nor LoRA on one of these GPUs (", to_gib(lora.gpu.total()), ")."));
  }
  if (outcome.first->placement == outcome.advised.placement) return text + "Nothing that copies or talks less does.";
  return concat(text,
                outcome.advised_fits ? "Less is needed: " : "What fits first: ", describe(outcome.first->placement),
                " with ", to_gib(outcome.first->gpu.total()), " a GPU", host_part(*outcome.first), ".");
}

}  // namespace

std::span<const GuideRow> model_size_guide() {
  static const std::vector<GuideRow> kGuide = {
      {"< 1B", "stage 2", "8-16 GB", "1x RTX 3070/4070", kStage2, {{1, "RTX 3070"}, {1, "RTX 4070"}}, "Qwen3-0.6B"},
      {"1-7B", "stage 2 + offload", "16-24 GB", "2x RTX 4090", kStage2Offload, {{2, "RTX 4090"}}, "Llama-2-7B"},
      {"7-20B", "stage 3", "40-80 GB", "2-4x A100", kStage3, {{2, "A100 80GB"}, {4, "A100 80GB"}}, "Qwen3-14B"},
      {"20-70B",
       "stage 3 + offload",
       "80+ GB",
       "4-8x A100/H100",
       kStage3Offload,
       {{4, "A100 80GB"}, {8, "H100"}},
       "Qwen3-32B"},
      {"70B+",
       "stage 3 + offload",
       "512+ GB",
       "8x H100/H200",
       kStage3Offload,
       {{8, "H100"}, {8, "H200"}},
       "Llama-3.1-70B"},
  };
  return kGuide;
}

SizeRow compute_row(const GuideRow& guide, const spec::ModelSpec& shape) {
  Workload workload = workload_of_table(shape);
  SizeRow row{.guide = guide, .num_params = num_params(shape), .outcomes = {}, .lora = {}, .reason = {}};
  for (const GpuSet& set : guide.sets) row.outcomes.push_back(compute_outcome(guide, set, workload));
  workload.lora = lora::LoraConfig();
  row.lora = estimate_memory(workload, {});
  for (const SetOutcome& outcome : row.outcomes)
    row.reason += (row.reason.empty() ? "" : " ") + reason_of(outcome, row.lora);
  return row;
}

std::vector<SizeRow> compute_table() {
  std::vector<SizeRow> rows;
  for (const GuideRow& guide : model_size_guide()) rows.push_back(compute_row(guide, spec_of(guide.shape)));
  return rows;
}

}  // namespace dsft::estimate
