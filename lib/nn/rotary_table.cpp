#include "nn/rotary_table.h"

#include <cmath>
#include <numbers>

#include "base/error.h"

namespace dsft::nn {
namespace {

using spec::RopeSpec;

at::Tensor default_frequencies(double theta, int64_t dim) {
  return 1.0 / torch::pow(theta, torch::arange(0, dim, 2, at::kLong).to(at::kFloat) / static_cast<double>(dim));
}

double yarn_magnitude(double factor, double mscale = 1.0) { return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

double yarn_attention_scaling(const RopeSpec& rope) {
  if (rope.attention_factor) return *rope.attention_factor;
  if (rope.mscale.value_or(0) != 0 && rope.mscale_all_dim.value_or(0) != 0)
    return yarn_magnitude(rope.factor, *rope.mscale) / yarn_magnitude(rope.factor, *rope.mscale_all_dim);
  return yarn_magnitude(rope.factor);
}

// Peng et al., "YaRN", 2023: high frequencies stay, low ones are interpolated, with a linear ramp between.
at::Tensor yarn_frequencies(const RopeSpec& rope, int64_t dim, int64_t original_length) {
  const auto dimension_of = [&](double rotations) {
    return dim * std::log(original_length / (rotations * 2 * std::numbers::pi)) / (2 * std::log(rope.theta));
  };
  double low = dimension_of(rope.beta_fast), high = dimension_of(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  const at::Tensor ramp = ((torch::arange(dim / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
  const at::Tensor periods = torch::pow(rope.theta, torch::arange(0, dim, 2, at::kFloat) / static_cast<double>(dim));
  return (1.0 / (rope.factor * periods)) * ramp + (1.0 / periods) * (1.0 - ramp);
}

at::Tensor llama3_frequencies(const RopeSpec& rope, int64_t dim, int64_t original_length) {
  const at::Tensor plain = default_frequencies(rope.theta, dim);
  const at::Tensor wavelength = 2 * std::numbers::pi / plain;
  const double low = original_length / rope.low_freq_factor, high = original_length / rope.high_freq_factor;
  const at::Tensor scaled = torch::where(wavelength > low, plain / rope.factor, plain);
  const at::Tensor smooth = (original_length / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  const at::Tensor between = (1.0 - smooth) * scaled / rope.factor + smooth * scaled;
  return torch::where((wavelength >= high).logical_and(wavelength <= low), between, scaled);
}

}  // namespace

RotaryTable::RotaryTable(const RopeSpec& rope, int64_t head_dim, int64_t max_position_embeddings)
    : rope_(rope), head_dim_(head_dim), max_position_embeddings_(max_position_embeddings) {
  if (rope_.type == RopeSpec::Type::kYarn) attention_scaling_ = yarn_attention_scaling(rope_);
}

at::Tensor RotaryTable::inverse_frequencies(int64_t longest) const {
  const int64_t original = rope_.original_max_position_embeddings > 0 ? rope_.original_max_position_embeddings : max_position_embeddings_;
  switch (rope_.type) {
    case RopeSpec::Type::kDefault: return default_frequencies(rope_.theta, head_dim_);
    case RopeSpec::Type::kLinear: return default_frequencies(rope_.theta, head_dim_) / rope_.factor;
    case RopeSpec::Type::kDynamic: {
      const double length = static_cast<double>(std::max(longest, max_position_embeddings_));
      const double stretch = rope_.factor * length / static_cast<double>(max_position_embeddings_) - (rope_.factor - 1);
      return default_frequencies(rope_.theta * std::pow(stretch, static_cast<double>(head_dim_) / static_cast<double>(head_dim_ - 2)), head_dim_);
    }
    case RopeSpec::Type::kYarn: return yarn_frequencies(rope_, head_dim_, original);
    case RopeSpec::Type::kLlama3: return llama3_frequencies(rope_, head_dim_, original);
  }
  DSFT_CHECK(false, "rope type ", static_cast<int>(rope_.type));
}

std::pair<at::Tensor, at::Tensor> RotaryTable::angles(const at::Tensor& positions, int64_t longest) const {
  const at::Tensor frequencies = inverse_frequencies(longest).to(positions.device());
  const at::Tensor angle = positions[0].to(at::kFloat).unsqueeze(1) * frequencies.unsqueeze(0);
  return {angle.cos() * attention_scaling_, angle.sin() * attention_scaling_};
}

}  // namespace dsft::nn
