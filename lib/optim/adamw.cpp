#include "optim/adamw.h"

#include <torch/types.h>

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "device/device.h"
#include "kernels/cuda_tensors.h"
#include "optim/adamw_cpu.h"
#include "optim/adamw_cuda.h"

namespace dsft::optim {
namespace {

// Parts that threads share out: whole pages of each buffer, so that no two threads write one.
constexpr int64_t kUpdatedElements = 8 * cpu::kPieceElements;

void check_tensors(const AdamWTensors& tensors) {
  for (const at::Tensor* tensor : {&tensors.weight, &tensors.gradient, &tensors.exp_avg, &tensors.exp_avg_sq}) {
    DSFT_CHECK(tensor->is_contiguous() && tensor->numel() == tensors.weight.numel() &&
                   tensor->device() == tensors.weight.device(),
               "AdamW got a tensor that is not contiguous and of the weight's length");
    DSFT_CHECK(tensor->scalar_type() == at::kFloat || tensor == &tensors.gradient,
               "AdamW got a weight or a state that is not fp32");
  }
  const at::ScalarType gradient = tensors.gradient.scalar_type();
  DSFT_CHECK(
      gradient == at::kFloat || (tensors.gradient.is_cpu() && (gradient == at::kBFloat16 || gradient == at::kHalf)),
      "AdamW got a gradient in ", c10::toString(gradient), " on ", tensors.gradient.device().str());
  if (!tensors.copy.defined()) return;
  DSFT_CHECK((tensors.copy.scalar_type() == at::kBFloat16 || tensors.copy.scalar_type() == at::kHalf) &&
                 tensors.copy.is_contiguous() && tensors.copy.numel() == tensors.weight.numel(),
             "AdamW's copy is not a 16-bit tensor of the weight's length");
}

cpu::AdamWFactors factors_of(const AdamWOptions& options, const AdamWNumbers& numbers) {
  const double t = static_cast<double>(numbers.num_applied_updates + 1);
  const double beta1 = numbers.beta1.value_or(options.beta1);
  return {.gradient_factor = static_cast<float>(numbers.gradient_factor),
          .decay = static_cast<float>(numbers.learning_rate * options.weight_decay),
          .beta1 = static_cast<float>(beta1),
          .one_minus_beta1 = static_cast<float>(1.0 - beta1),
          .beta2 = static_cast<float>(options.beta2),
          .one_minus_beta2 = static_cast<float>(1.0 - options.beta2),
          .step_size = static_cast<float>(numbers.learning_rate / (1.0 - std::pow(beta1, t))),
          .inverse_sqrt_bias_correction = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(options.beta2, t))),
          .epsilon = static_cast<float>(options.epsilon)};
}

template <typename Gradient>
void update_on_cpu(AdamWTensors& tensors, const cpu::AdamWFactors& factors) {
  float* weight = tensors.weight.data_ptr<float>();
  const auto* gradient = tensors.gradient.const_data_ptr<Gradient>();
  float* exp_avg = tensors.exp_avg.data_ptr<float>();
  float* exp_avg_sq = tensors.exp_avg_sq.data_ptr<float>();
  const bool has_copy = tensors.copy.defined(), is_bfloat16 = has_copy && tensors.copy.scalar_type() == at::kBFloat16;
  void* copy = has_copy ? tensors.copy.data_ptr() : nullptr;
  const int64_t numel = tensors.weight.numel(), num_parts = (numel + kUpdatedElements - 1) / kUpdatedElements;
  at::parallel_for(0, num_parts, 1, [&](int64_t first, int64_t last) {
    const int64_t end = std::min(numel, last * kUpdatedElements);
    for (int64_t from = first * kUpdatedElements; from < end; from += cpu::kPieceElements) {
      const int64_t to = std::min(end, from + cpu::kPieceElements);
      cpu::adamw_elements(weight, gradient, exp_avg, exp_avg_sq, factors, from, to);
      if (!has_copy) continue;
      if (is_bfloat16)
        cpu::round_elements(weight, static_cast<c10::BFloat16*>(copy), from, to);
      else
        cpu::round_elements(weight, static_cast<c10::Half*>(copy), from, to);
    }
  });
}

void update_on_cuda(AdamWTensors& tensors, const AdamWOptions& options, const AdamWUpdate& update) {
  for (const at::Tensor* tensor : {&tensors.weight, &tensors.gradient, &tensors.exp_avg, &tensors.exp_avg_sq})
    DSFT_CHECK(kernels::cuda::is_aligned(*tensor),
               "the GPU updates elements from a place that is no multiple of 16 bytes");
  DSFT_CHECK(!tensors.copy.defined() || kernels::cuda::is_aligned(tensors.copy, 8),
             "the GPU writes 16-bit copies to a place that is no multiple of 8 bytes");
  cuda::adamw({.weight = tensors.weight.data_ptr<float>(),
               .gradient = tensors.gradient.const_data_ptr<float>(),
               .exp_avg = tensors.exp_avg.data_ptr<float>(),
               .exp_avg_sq = tensors.exp_avg_sq.data_ptr<float>(),
               .copy = tensors.copy.defined() ? tensors.copy.data_ptr() : nullptr,
               .copy_is_bfloat16 = tensors.copy.defined() && tensors.copy.scalar_type() == at::kBFloat16,
               .learning_rate = update.learning_rate.const_data_ptr<double>(),
               .gradient_factor = update.gradient_factor.const_data_ptr<double>(),
               .num_applied_updates = update.num_applied_updates.const_data_ptr<int64_t>(),
               .is_applied = update.is_applied.const_data_ptr<bool>(),
               .beta1 = update.beta1.defined() ? update.beta1.const_data_ptr<double>() : nullptr},
              tensors.weight.numel(), options.beta1, options.beta2, options.epsilon, options.weight_decay,
              device::current_stream(tensors.weight.device()));
}

}  // namespace

void adamw_update(AdamWTensors& tensors, const AdamWOptions& options, const AdamWUpdate& update) {
  if (tensors.weight.is_cpu()) {
    if (!update.is_applied.item<bool>()) return;
    return adamw_update(tensors, options,
                        {.learning_rate = update.learning_rate.item<double>(),
                         .gradient_factor = update.gradient_factor.item<double>(),
                         .num_applied_updates = update.num_applied_updates.item<int64_t>(),
                         .beta1 = update.beta1.defined() ? std::optional(update.beta1.item<double>()) : std::nullopt});
  }
  check_tensors(tensors);
  at::NoGradGuard no_grad;
  if (tensors.weight.is_cuda())
    update_on_cuda(tensors, options, update);
  else
    adamw_update_by_operations(tensors, options, update);
}

void adamw_update(AdamWTensors& tensors, const AdamWOptions& options, const AdamWNumbers& numbers) {
  check_tensors(tensors);
  DSFT_CHECK(tensors.weight.is_cpu(), "the numbers of an update are on the host, and its tensors on ",
             tensors.weight.device().str());
  at::NoGradGuard no_grad;
  const cpu::AdamWFactors factors = factors_of(options, numbers);
  if (tensors.gradient.scalar_type() == at::kFloat)
    update_on_cpu<float>(tensors, factors);
  else if (tensors.gradient.scalar_type() == at::kBFloat16)
    update_on_cpu<c10::BFloat16>(tensors, factors);
  else
    update_on_cpu<c10::Half>(tensors, factors);
}

void adamw_update_by_operations(AdamWTensors& tensors, const AdamWOptions& options, const AdamWUpdate& update) {
  at::NoGradGuard no_grad;
  const at::Tensor t = update.num_applied_updates.to(at::kDouble) + 1.0;
  const at::Tensor beta1 = update.beta1.defined() ? update.beta1 : at::full_like(t, options.beta1);
  const at::Tensor step_size = update.learning_rate / (1.0 - at::pow(beta1, t));
  const at::Tensor sqrt_bias_correction = at::sqrt(1.0 - at::pow(options.beta2, t));
  const at::Tensor decay = update.learning_rate * options.weight_decay;
  const at::Tensor gradient = tensors.gradient.to(at::kFloat) * update.gradient_factor.to(at::kFloat);
  const at::Tensor exp_avg = tensors.exp_avg * beta1 + gradient * (1.0 - beta1);
  const at::Tensor exp_avg_sq = tensors.exp_avg_sq * options.beta2 + gradient * gradient * (1.0 - options.beta2);
  const at::Tensor denominator = at::sqrt(exp_avg_sq) / sqrt_bias_correction.to(at::kFloat) + options.epsilon;
  const at::Tensor weight =
      tensors.weight - (tensors.weight * decay.to(at::kFloat) + step_size.to(at::kFloat) * exp_avg / denominator);
  tensors.exp_avg.copy_(at::where(update.is_applied, exp_avg, tensors.exp_avg));
  tensors.exp_avg_sq.copy_(at::where(update.is_applied, exp_avg_sq, tensors.exp_avg_sq));
  tensors.weight.copy_(at::where(update.is_applied, weight, tensors.weight));
  if (tensors.copy.defined()) tensors.copy.copy_(tensors.weight);
}

}  // namespace dsft::optim
