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

constexpr int64_t kGrainElements = 1 << 15;

void check_tensors(const AdamWTensors& tensors) {
  for (const at::Tensor* tensor : {&tensors.weight, &tensors.gradient, &tensors.exp_avg, &tensors.exp_avg_sq}) {
    DSFT_CHECK(tensor->scalar_type() == at::kFloat && tensor->is_contiguous() &&
                   tensor->numel() == tensors.weight.numel() && tensor->device() == tensors.weight.device(),
               "AdamW got a tensor that is not fp32, contiguous and of the weight's length");
  }
  if (!tensors.copy.defined()) return;
  DSFT_CHECK((tensors.copy.scalar_type() == at::kBFloat16 || tensors.copy.scalar_type() == at::kHalf) &&
                 tensors.copy.is_contiguous() && tensors.copy.numel() == tensors.weight.numel(),
             "AdamW's copy is not a 16-bit tensor of the weight's length");
}

cpu::AdamWFactors factors_of(const AdamWOptions& options, const AdamWUpdate& update) {
  const double learning_rate = update.learning_rate.item<double>();
  const double t = static_cast<double>(update.num_applied_updates.item<int64_t>() + 1);
  return {.gradient_factor = static_cast<float>(update.gradient_factor.item<double>()),
          .decay = static_cast<float>(learning_rate * options.weight_decay),
          .beta1 = static_cast<float>(options.beta1),
          .one_minus_beta1 = static_cast<float>(1.0 - options.beta1),
          .beta2 = static_cast<float>(options.beta2),
          .one_minus_beta2 = static_cast<float>(1.0 - options.beta2),
          .step_size = static_cast<float>(learning_rate / (1.0 - std::pow(options.beta1, t))),
          .inverse_sqrt_bias_correction = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(options.beta2, t))),
          .epsilon = static_cast<float>(options.epsilon)};
}

void update_on_cpu(AdamWTensors& tensors, const AdamWOptions& options, const AdamWUpdate& update) {
  if (!update.is_applied.item<bool>()) return;
  const cpu::AdamWFactors factors = factors_of(options, update);
  float* weight = tensors.weight.data_ptr<float>();
  const float* gradient = tensors.gradient.const_data_ptr<float>();
  float* exp_avg = tensors.exp_avg.data_ptr<float>();
  float* exp_avg_sq = tensors.exp_avg_sq.data_ptr<float>();
  at::parallel_for(0, tensors.weight.numel(), kGrainElements, [&](int64_t begin, int64_t end) {
    // pieces that fit the cache, so that the copy reads weights that have just been written
    for (int64_t from = begin; from < end; from += kGrainElements) {
      const int64_t to = std::min(end, from + kGrainElements);
      cpu::adamw_elements(weight, gradient, exp_avg, exp_avg_sq, factors, from, to);
      if (!tensors.copy.defined()) continue;
      if (tensors.copy.scalar_type() == at::kBFloat16) {
        cpu::round_elements(weight, tensors.copy.data_ptr<c10::BFloat16>(), from, to);
      } else {
        cpu::round_elements(weight, tensors.copy.data_ptr<c10::Half>(), from, to);
      }
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
               .is_applied = update.is_applied.const_data_ptr<bool>()},
              tensors.weight.numel(), options.beta1, options.beta2, options.epsilon, options.weight_decay,
              device::current_stream(tensors.weight.device()));
}

}  // namespace

void adamw_update(AdamWTensors& tensors, const AdamWOptions& options, const AdamWUpdate& update) {
  check_tensors(tensors);
  at::NoGradGuard no_grad;
  if (tensors.weight.device().is_cpu()) {
    update_on_cpu(tensors, options, update);
  } else if (tensors.weight.is_cuda()) {
    update_on_cuda(tensors, options, update);
  } else {
    adamw_update_by_operations(tensors, options, update);
  }
}

void adamw_update_by_operations(AdamWTensors& tensors, const AdamWOptions& options, const AdamWUpdate& update) {
  at::NoGradGuard no_grad;
  const at::Tensor t = update.num_applied_updates.to(at::kDouble) + 1.0;
  const at::Tensor step_size = update.learning_rate / (1.0 - at::pow(options.beta1, t));
  const at::Tensor sqrt_bias_correction = at::sqrt(1.0 - at::pow(options.beta2, t));
  const at::Tensor decay = update.learning_rate * options.weight_decay;
  const at::Tensor gradient = tensors.gradient * update.gradient_factor.to(at::kFloat);
  const at::Tensor exp_avg = tensors.exp_avg * options.beta1 + gradient * (1.0 - options.beta1);
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
