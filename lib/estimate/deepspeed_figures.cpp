#include "estimate/deepspeed_figures.h"

#include <algorithm>
#include <map>
#include <string>

namespace dsft::estimate {
namespace {

constexpr double kBufferFactor = 1.5;

int64_t cut(double bytes) {
  return static_cast<int64_t>(bytes);
}

DeepSpeedFigures of_stage_2(double params, bool offloads, double gpus, double all_gpus) {
  if (offloads) return {.gpu = cut(2 * params), .host = cut(params * std::max(4 * all_gpus, 16.0) * kBufferFactor)};
  return {.gpu = cut(2 * params) + cut(18 * params / all_gpus), .host = cut(params * 4 * gpus * kBufferFactor)};
}

DeepSpeedFigures of_stage_3(const DeepSpeedModel& model, const Placement& placement, double hosts, bool zero_init) {
  const auto params = static_cast<double>(model.num_params), gpus = static_cast<double>(placement.num_gpus);
  const double share = 1 / hosts;
  DeepSpeedFigures figures{.gpu = 4 * model.largest_layer, .host = 0};
  if (!placement.offloads_optimizer) {
    figures.gpu += cut(18 * params / (gpus * hosts));
    const double on_host = zero_init ? static_cast<double>(model.largest_layer) : params;
    figures.host = cut(on_host * 4 * gpus * kBufferFactor);
    return figures;
  }
  if (!placement.offloads_parameters) figures.gpu += cut(2 * params / (gpus * hosts));
  const double bytes = placement.offloads_parameters ? 18 : 16;
  figures.host = zero_init ? cut(params * bytes * share * kBufferFactor)
                           : cut(params * std::max(4 * gpus, bytes * share) * kBufferFactor);
  return figures;
}

}  // namespace

DeepSpeedModel deepspeed_model(const spec::ModelSpec& spec) {
  DeepSpeedModel model;
  std::map<std::string, int64_t> modules;
  for (const spec::TensorSpec& tensor : tensor_inventory(spec)) {
    int64_t count = 1;
    for (const int64_t size : tensor.shape) count *= size;
    model.num_params += count;
    modules[tensor.name.substr(0, tensor.name.rfind('.'))] += count;
  }
  for (const auto& [name, count] : modules) model.largest_layer = std::max(model.largest_layer, count);
  return model;
}

std::optional<DeepSpeedFigures> deepspeed_figures(const DeepSpeedModel& model, const Placement& placement,
                                                  int64_t num_hosts, bool zero_init) {
  const auto hosts = static_cast<double>(num_hosts);
  if (placement.stage < 2 || (placement.offloads_parameters && !placement.offloads_optimizer)) return std::nullopt;
  if (placement.stage == 3) return of_stage_3(model, placement, hosts, zero_init);
  const auto gpus = static_cast<double>(placement.num_gpus);
  return of_stage_2(static_cast<double>(model.num_params), placement.offloads_optimizer, gpus, gpus * hosts);
}

}  // namespace dsft::estimate
