#include "train/metrics_line.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace dsft::train {
namespace {

// JSON has no NaN and no infinity: such a value is null.
void put(nlohmann::ordered_json& object, const std::string& name, double value) {
  if (std::isfinite(value))
    object[name] = value;
  else
    object[name] = nullptr;
}

}  // namespace

std::string format_metrics(const StepReport& report) {
  nlohmann::ordered_json object;
  object["step"] = report.step;
  put(object, "epoch", report.epoch);
  put(object, "loss", report.loss);
  put(object, "grad_norm", report.grad_norm);
  put(object, "learning_rate", report.learning_rate);
  object["num_tokens"] = report.num_tokens;
  put(object, "tokens_per_second", report.tokens_per_second());
  put(object, "step_time", report.step_time());
  put(object, "peak_memory_gib", report.peak_memory_gib);
  for (const auto& [name, value] : report.metrics) put(object, name, value);
  if (!report.is_applied) object["skipped"] = true;
  if (report.loss_scale != 1) object["loss_scale"] = report.loss_scale;
  return object.dump();
}

std::string format_metrics(int64_t step, double epoch, const std::map<std::string, double>& metrics) {
  nlohmann::ordered_json object;
  object["step"] = step;
  put(object, "epoch", epoch);
  for (const auto& [name, value] : metrics) put(object, name, value);
  return object.dump();
}

}  // namespace dsft::train
