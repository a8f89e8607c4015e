#include "estimate/model_shapes.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <iomanip>
#include <sstream>

#include "base/error.h"
#include "spec/parameter_counts.h"

namespace dsft::estimate {
namespace {

// from each checkpoint's config.json
constexpr std::array<NamedShape, 10> kShapes = {{
    {"SmolLM2-135M", "llama", 576, 1536, 30, 9, 3, 64, 49152, true},
    {"Qwen3-0.6B", "qwen3", 1024, 3072, 28, 16, 8, 128, 151936, true},
    {"Qwen2.5-1.5B", "qwen2", 1536, 8960, 28, 12, 2, 128, 151936, true},
    {"Qwen3-4B", "qwen3", 2560, 9728, 36, 32, 8, 128, 151936, true},
    {"Llama-2-7B", "llama", 4096, 11008, 32, 32, 32, 128, 32000, false},
    {"Qwen2.5-7B", "qwen2", 3584, 18944, 28, 28, 4, 128, 152064, false},
    {"Qwen3-14B", "qwen3", 5120, 17408, 40, 40, 8, 128, 151936, false},
    {"Qwen3-32B", "qwen3", 5120, 25600, 64, 64, 8, 128, 151936, false},
    {"Llama-3.1-70B", "llama", 8192, 28672, 80, 64, 8, 128, 128256, false},
    {"Llama-3.1-405B", "llama", 16384, 53248, 126, 128, 8, 128, 128256, false},
}};

spec::ModelSpec to_spec(const NamedShape& shape) {
  spec::ModelSpec spec;
  spec.model_type = shape.model_type;
  spec.vocab_size = shape.vocab_size;
  spec.hidden_size = shape.hidden_size;
  spec.intermediate_size = shape.intermediate_size;
  spec.num_hidden_layers = shape.num_layers;
  spec.num_attention_heads = shape.num_heads;
  spec.num_key_value_heads = shape.num_kv_heads;
  spec.head_dim = shape.head_dim;
  spec.max_position_embeddings = 131072;
  spec.tie_word_embeddings = shape.is_tied;
  spec.attention_bias = shape.model_type == "qwen2";
  spec.has_qk_norm = shape.model_type == "qwen3";
  return spec;
}

// The spec with all widths times `factor`, the inner width of the MLP in steps of 8.
spec::ModelSpec scaled(const spec::ModelSpec& spec, double factor) {
  const auto times = [&](int64_t value, int64_t step) {
    const double steps = std::round(static_cast<double>(value) * factor / static_cast<double>(step));
    return std::max<int64_t>(1, static_cast<int64_t>(steps)) * step;
  };
  spec::ModelSpec result = spec;
  result.num_attention_heads = times(spec.num_attention_heads, spec.num_key_value_heads);
  result.hidden_size = times(spec.hidden_size, 64);
  result.intermediate_size = times(spec.intermediate_size, 8);
  return result;
}

// Sets the inner width of the MLPs so that the model has `wanted` parameters, as near as steps of 8 allow.
void fit_inner_width(spec::ModelSpec& spec, int64_t wanted) {
  const int64_t per_step = 8 * 3 * spec.hidden_size * spec.num_hidden_layers;
  const int64_t missing = wanted - num_params(spec);
  const auto steps = static_cast<int64_t>(std::llround(static_cast<double>(missing) / static_cast<double>(per_step)));
  spec.intermediate_size = std::max<int64_t>(8, spec.intermediate_size + 8 * steps);
}

}  // namespace

std::span<const NamedShape> named_shapes() {
  return kShapes;
}

spec::ModelSpec spec_of(std::string_view name) {
  for (const NamedShape& shape : kShapes)
    if (shape.name == name) return to_spec(shape);
  fail(ErrorKind::kInternal, "no shape is named ", name);
}

int64_t num_params(const spec::ModelSpec& spec) {
  return spec::count_parameters(spec, nullptr).model;
}

SizedModel model_of_size(int64_t wanted) {
  const auto distance = [&](const NamedShape& shape) {
    return std::abs(std::log(static_cast<double>(wanted) / static_cast<double>(num_params(to_spec(shape)))));
  };
  const NamedShape& nearest = *std::min_element(
      kShapes.begin(), kShapes.end(), [&](const auto& a, const auto& b) { return distance(a) < distance(b); });
  const spec::ModelSpec shape = to_spec(nearest);
  double low = 1.0 / 64, high = 64;
  for (int i = 0; i < 60; ++i) {
    const double middle = std::sqrt(low * high);
    (num_params(scaled(shape, middle)) < wanted ? low : high) = middle;
  }
  spec::ModelSpec spec = scaled(shape, high);
  fit_inner_width(spec, wanted);
  return {spec, concat(to_size(num_params(spec)), " parameters in the proportions of ", nearest.name)};
}

int64_t parse_size(const std::string& text) {
  constexpr double kLeast = 1e6, kMost = 1e13;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string unit = text.substr(static_cast<size_t>(end - text.data()));
  if (unit == "B" || unit == "b") value *= 1e9;
  if (unit == "M" || unit == "m") value *= 1e6;
  const bool is_known = unit.empty() || unit == "B" || unit == "b" || unit == "M" || unit == "m";
  if (error != std::errc() || !is_known || !(value >= kLeast && value <= kMost))
    fail(ErrorKind::kUsage, "--params: `", text,
         "` is no size of a model; write a number of parameters from 1M on, such as 7B, 0.6B or 350M");
  return static_cast<int64_t>(std::llround(value));
}

std::string to_size(int64_t num_params) {
  const auto value = static_cast<double>(num_params);
  std::ostringstream out;
  if (value < 1e9)
    out << std::llround(value / 1e6) << "M";
  else
    out << std::fixed << std::setprecision(1) << value / 1e9 << "B";
  return out.str();
}

}  // namespace dsft::estimate
