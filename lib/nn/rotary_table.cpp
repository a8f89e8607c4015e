#include "nn/rotary_table.h"

#include <cmath>
#include <numbers>

#include "base/error.h"
#include "device/device.h"

namespace dsft::nn {
namespace {

using spec::RopeSpec;

at::Tensor default_frequencies(double theta, int64_t dim) {
  return 1.0 / torch::pow(theta, torch::arange(0, dim, 2, at::kLong).to(at::kFloat) / static_cast<double>(dim));
}

double yarn_magnitude(double factor, double mscale = 1.0) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

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
  const at::Tensor smooth =
      (original_length / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  const at::Tensor between = (1.0 - smooth) * scaled / rope.factor + smooth * scaled;
  return torch::where((wavelength >= high).logical_and(wavelength <= low), between, scaled);
}

}  // namespace

RotaryTable::RotaryTable(const RopeSpec& rope, int64_t head_dim, int64_t max_position_embeddings, at::Device device)
    : rope_(rope), head_dim_(head_dim), max_position_embeddings_(max_position_embeddings) {
  if (rope_.type == RopeSpec::Type::kYarn) attention_scaling_ = yarn_attention_scaling(rope_);
  if (rope_.type != RopeSpec::Type::kDynamic) frequencies_ = inverse_frequencies().unsqueeze(0).to(device);
}

// [D/2], the same for every token.
at::Tensor RotaryTable::inverse_frequencies() const {
  const int64_t original =
      rope_.original_max_position_embeddings > 0 ? rope_.original_max_position_embeddings : max_position_embeddings_;
  switch (rope_.type) {
    case RopeSpec::Type::kDefault:
      return default_frequencies(rope_.theta, head_dim_);
    case RopeSpec::Type::kLinear:
      return default_frequencies(rope_.theta, head_dim_) / rope_.factor;
    case RopeSpec::Type::kYarn:
      return yarn_frequencies(rope_, head_dim_, original);
    case RopeSpec::Type::kLlama3:
      return llama3_frequencies(rope_, head_dim_, original);
    case RopeSpec::Type::kDynamic:
      break;  // depends on the document
  }
  DSFT_CHECK(false, "rope type ", static_cast<int>(rope_.type));
  return {};
}

// [T, D/2]: the base grows with the document's length beyond the trained one (NTK-aware scaling).
at::Tensor RotaryTable::dynamic_frequencies(const at::Tensor& positions, const std::vector<int64_t>& boundaries) const {
  const int64_t num_documents = static_cast<int64_t>(boundaries.size()) - 1;
  // a decoding step has one token of each document, and must not wait for memory from the host
  const bool is_step = num_documents == positions.size(1);
  at::Tensor last = positions[0], counts;
  if (!is_step) {
    const at::Tensor bounds = device::copy_from_host(torch::tensor(boundaries, at::kLong), positions.device());
    const at::Tensor ends = bounds.narrow(0, 1, num_documents);
    last = last.index_select(0, ends - 1);
    counts = ends - bounds.narrow(0, 0, num_documents);
  }
  const double trained = static_cast<double>(max_position_embeddings_);
  const at::Tensor lengths = (last + 1).clamp_min(max_position_embeddings_).to(at::kDouble);
  const at::Tensor bases =
      rope_.theta * torch::pow(rope_.factor * lengths / trained - (rope_.factor - 1), head_dim_ / (head_dim_ - 2.0));
  const at::Tensor exponents =
      torch::arange(0, head_dim_, 2, at::TensorOptions(at::kLong).device(positions.device())).to(at::kFloat) /
      head_dim_;
  const at::Tensor frequencies = 1.0 / torch::pow(bases.to(at::kFloat).unsqueeze(1), exponents.unsqueeze(0));
  return is_step ? frequencies : frequencies.repeat_interleave(counts, 0, boundaries.back());
}

std::pair<at::Tensor, at::Tensor> RotaryTable::angles(const at::Tensor& positions,
                                                      const std::vector<int64_t>& boundaries) const {
  const at::Tensor frequencies =
      rope_.type == RopeSpec::Type::kDynamic ? dynamic_frequencies(positions, boundaries) : frequencies_;
  const at::Tensor angle = positions[0].to(at::kFloat).unsqueeze(1) * frequencies;
  return {angle.cos() * attention_scaling_, angle.sin() * attention_scaling_};
}

}  // namespace dsft::nn
