#include "dsft/memory_report.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

#include "base/error.h"
#include "base/nearest_name.h"
#include "estimate/deepspeed_figures.h"
#include "estimate/gpus.h"
#include "estimate/model_shapes.h"

namespace dsft::apps {
namespace {

using Json = nlohmann::ordered_json;

Json columns_json(const estimate::Columns& columns) {
  return {{"weights", columns.weights},     {"gradients", columns.gradients},
          {"optimizer", columns.optimizer}, {"activations", columns.activations},
          {"loss", columns.loss},           {"buffers", columns.buffers},
          {"total", columns.total()}};
}

std::vector<std::string> gpus_that_fit(const estimate::MemoryEstimate& estimate) {
  std::vector<std::string> names;
  for (const estimate::NamedGpu& gpu : estimate::named_gpus())
    if (estimate.gpu.total() <= usable_bytes(gpu)) names.emplace_back(gpu.name);
  return names;
}

std::string smallest_gpu(const estimate::MemoryEstimate& estimate) {
  const std::vector<std::string> names = gpus_that_fit(estimate);
  if (names.empty()) return "none";
  return names.front();
}

// DeepSpeed's estimators know full fine-tuning in 16 bits alone.
std::optional<estimate::DeepSpeedFigures> deepspeed_says(const estimate::MemoryEstimate& estimate,
                                                         const estimate::Workload& workload) {
  if (workload.lora || workload.dtype == spec::ComputeDtype::kFp32 || !workload.is_on_gpu) return std::nullopt;
  return estimate::deepspeed_figures(estimate::deepspeed_model(workload.model), estimate.placement);
}

std::string gib(int64_t bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(2) << static_cast<double>(bytes) / static_cast<double>(int64_t{1} << 30);
  return out.str();
}

// Columns as wide as what stands in them, the first to the left, the others to the right.
std::string aligned(const std::vector<std::vector<std::string>>& lines) {
  std::vector<size_t> widths;
  for (const auto& line : lines) {
    widths.resize(std::max(widths.size(), line.size()));
    for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  std::string text;
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) {
      const std::string gap(widths[i] - line[i].size(), ' ');
      const std::string cell = i == 0 ? line[i] + gap : gap + line[i];
      text += (i == 0 ? "" : "  ") + cell;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text += "\n";
  }
  return text;
}

bool has_deepspeed_column(const estimate::Workload& workload) {
  return deepspeed_says({.placement = {.stage = 2}, .gpu = {}, .host = {}, .outside = 0}, workload).has_value();
}

}  // namespace

Json memory_json(const estimate::MemoryEstimate& estimate, const estimate::Workload& workload) {
  const auto deepspeed = deepspeed_says(estimate, workload);
  return {{"stage", estimate.placement.stage},
          {"offload_optimizer", estimate.placement.offloads_optimizer},
          {"offload_param", estimate.placement.offloads_parameters},
          {"num_gpus", estimate.placement.num_gpus},
          {"gpu_bytes", columns_json(estimate.gpu)},
          {"host_bytes", columns_json(estimate.host)},
          {"outside_of_steps_bytes", estimate.outside},
          {"fits", workload.is_on_gpu ? Json(gpus_that_fit(estimate)) : Json()},
          {"deepspeed", deepspeed ? Json{{"gpu_bytes", deepspeed->gpu}, {"host_bytes", deepspeed->host}} : Json()}};
}

std::string to_table(const std::vector<estimate::MemoryEstimate>& rows, const estimate::Workload& workload) {
  std::vector<std::vector<std::string>> lines = {
      {"zero", "weights", "gradients", "optimizer", "activations", "loss", "buffers", "total"}};
  const bool is_compared = has_deepspeed_column(workload);
  if (workload.is_on_gpu) lines[0].insert(lines[0].end(), {"host", "fits from"});
  if (is_compared) lines[0].insert(lines[0].end(), {"DeepSpeed: GPU", "host"});
  for (const estimate::MemoryEstimate& row : rows) {
    const estimate::Columns& columns = workload.is_on_gpu ? row.gpu : row.host;
    std::vector<std::string> line = {estimate::describe(row.placement)};
    for (const int64_t bytes : {columns.weights, columns.gradients, columns.optimizer, columns.activations,
                                columns.loss, columns.buffers, columns.total()})
      line.push_back(gib(bytes));
    if (workload.is_on_gpu) line.insert(line.end(), {gib(row.host.total()), smallest_gpu(row)});
    const auto deepspeed = deepspeed_says(row, workload);
    if (is_compared && deepspeed) line.insert(line.end(), {gib(deepspeed->gpu), gib(deepspeed->host)});
    if (is_compared && !deepspeed) line.insert(line.end(), {"-", "-"});
    lines.push_back(std::move(line));
  }
  return aligned(lines);
}

std::string explain_table(const estimate::Workload& workload) {
  std::string text =
      "activations: what layers keep for the backward pass of a micro-batch whose tokens are all supervised; loss: "
      "head "
      "and loss;\nbuffers: blocks that are gathered or reduced, scratch memory, and by how much weights that are there "
      "twice "
      "outside of steps exceed a step.";
  if (!workload.is_on_gpu) return text + " Each process itself takes 0.4 GiB more.\n";
  text +=
      "\nhost: of all ranks together. fits from: the smallest GPU of the table in docs/memory.md whose memory, less 5 "
      "% and 1 GiB, holds the total.\n";
  if (has_deepspeed_column(workload))
    text +=
        "DeepSpeed: what estimate_zero2_ and estimate_zero3_model_states_mem_needs of 0.19.8 say; they know of no "
        "activations, loss or buffers.\n";
  return text;
}

std::string to_table(const std::vector<estimate::SizeRow>& rows) {
  std::string text =
      "The model-size guide, computed: full fine-tuning in bf16, one row of 2048 tokens a micro-batch, layers "
      "recomputed.\n";
  for (const estimate::SizeRow& row : rows) {
    text += concat("\n", row.guide.sizes, ": ", row.guide.advice, ", ", row.guide.memory, ", ", row.guide.gpus,
                   "\n  computed for ", row.guide.shape, " (", estimate::to_size(row.num_params), ")\n");
    std::vector<std::vector<std::string>> lines = {
        {"  GPUs", "weights", "gradients", "optimizer", "activations", "loss", "buffers", "total", "host", "fits"}};
    for (const estimate::SetOutcome& outcome : row.outcomes) {
      const estimate::Columns& columns = outcome.advised.gpu;
      lines.push_back({concat("  ", outcome.set.count, "x ", outcome.set.gpu), gib(columns.weights),
                       gib(columns.gradients), gib(columns.optimizer), gib(columns.activations), gib(columns.loss),
                       gib(columns.buffers), gib(columns.total()), gib(outcome.advised.host.total()),
                       outcome.advised_fits ? "yes" : "no"});
    }
    text += aligned(lines) + "  " + row.reason + "\n";
  }
  return text;
}

std::string to_line(const estimate::MemoryEstimate& estimate, const estimate::Workload& workload) {
  const std::string place =
      concat(estimate::describe(estimate.placement), ", ", estimate.placement.num_gpus,
             workload.is_on_gpu ? (estimate.placement.num_gpus == 1 ? " GPU" : " GPUs")
                                : (estimate.placement.num_gpus == 1 ? " CPU process" : " CPU ranks"));
  if (!workload.is_on_gpu) return concat(estimate::to_gib(estimate.host.total()), " of the host (", place, ")");
  const std::vector<std::string> names = gpus_that_fit(estimate);
  return concat(estimate::to_gib(estimate.gpu.total()), " on each GPU, ", estimate::to_gib(estimate.host.total()),
                " of the host (", place, "); fits ", names.empty() ? "none of the known GPUs" : join_words(names));
}

}  // namespace dsft::apps
