#include "kernels/token_log_probs_rows.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include "kernels/cuda_tensors.h"
#include "kernels/float_types.h"
#include "kernels/token_log_probs_rows_cpu.h"
#include "kernels/token_log_probs_rows_cuda.h"

namespace dsft::kernels {
namespace {

bool are_scales(const at::Tensor& scales, const at::Tensor& logits, bool makes_gradient) {
  return !scales.defined() || (makes_gradient && scales.numel() == logits.size(0) &&
                               scales.scalar_type() == at::kFloat && scales.is_contiguous());
}

const float* pointer_to(const at::Tensor& scales) {
  return scales.defined() ? scales.const_data_ptr<float>() : nullptr;
}

// By torch's own operations, in any type.
TokenStatistics unfused_rows(at::Tensor& logits, const at::Tensor& targets, bool makes_gradient,
                             const at::Tensor& row_scales, const PolicyRows& policy) {
  const at::ScalarType type = logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor wide = policy.temperature == 1 ? at::log_softmax(logits, -1, type)
                                                  : at::log_softmax(logits.to(type) / policy.temperature, -1);
  const at::Tensor column = targets.unsqueeze(1);
  TokenStatistics statistics{wide.gather(1, column).squeeze(1), logits.argmax(-1).eq(targets)};
  const bool has_entropies = policy.wants_entropies || policy.entropy_scales.defined();
  const at::Tensor entropies = has_entropies ? -(wide.exp() * wide).sum(-1) : at::Tensor();
  if (policy.wants_entropies) statistics.entropies = entropies;
  if (makes_gradient) {
    logits.copy_(wide.exp().neg());
    logits.scatter_add_(1, column, at::ones_like(column, logits.options()));
    if (row_scales.defined()) logits.mul_(row_scales.unsqueeze(1));
    if (policy.entropy_scales.defined())
      logits.sub_(wide.exp() * (wide + entropies.unsqueeze(1)) * policy.entropy_scales.unsqueeze(1));
    if (policy.temperature != 1) logits.div_(policy.temperature);
  }
  return statistics;
}

}  // namespace

TokenStatistics token_log_probs_rows(at::Tensor& logits, const at::Tensor& targets, bool makes_gradient,
                                     const at::Tensor& row_scales, const PolicyRows& policy) {
  DSFT_CHECK(logits.dim() == 2 && logits.is_contiguous() && targets.numel() == logits.size(0) &&
                 are_scales(row_scales, logits, makes_gradient) &&
                 are_scales(policy.entropy_scales, logits, makes_gradient) && policy.temperature > 0,
             "log-probabilities of ", logits.sizes());
  const bool is_on_cpu = logits.is_cpu() && logits.scalar_type() != at::kDouble;
  if (!is_on_cpu && !cuda::takes(logits)) return unfused_rows(logits, targets, makes_gradient, row_scales, policy);
  const auto row_options = logits.options();
  TokenStatistics statistics{at::empty({logits.size(0)}, row_options.dtype(at::kFloat)),
                             at::empty({logits.size(0)}, row_options.dtype(at::kBool))};
  if (policy.wants_entropies) statistics.entropies = at::empty_like(statistics.log_probs);
  const TemperedSoftmax tempered{.inverse_temperature = static_cast<float>(1 / policy.temperature),
                                 .entropies = policy.wants_entropies ? statistics.entropies.data_ptr<float>() : nullptr,
                                 .entropy_scales = pointer_to(policy.entropy_scales)};
  const float* scales = pointer_to(row_scales);
  if (is_on_cpu) {
    visit_float_type(logits.scalar_type(), [&](auto type) {
      using T = decltype(type);
      at::parallel_for(0, logits.size(0), 1, [&](int64_t begin, int64_t end) {
        cpu::token_log_probs_rows<T>(logits.data_ptr<T>(), targets.const_data_ptr<int64_t>(),
                                     statistics.log_probs.data_ptr<float>(), statistics.is_argmax.data_ptr<bool>(),
                                     makes_gradient, scales, tempered, begin, end, logits.size(1));
      });
    });
    return statistics;
  }
  cuda::token_log_probs_rows(logits.data_ptr(), targets.const_data_ptr<int64_t>(),
                             statistics.log_probs.data_ptr<float>(), statistics.is_argmax.data_ptr<bool>(),
                             makes_gradient, scales, tempered, logits.size(0), logits.size(1), cuda::float_type(logits),
                             cuda::stream_for(logits));
  return statistics;
}

}  // namespace dsft::kernels
