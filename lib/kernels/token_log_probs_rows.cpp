#include "kernels/token_log_probs_rows.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include "kernels/cuda_tensors.h"
#include "kernels/float_types.h"
#include "kernels/token_log_probs_rows_cpu.h"
#include "kernels/token_log_probs_rows_cuda.h"

namespace dsft::kernels {

TokenStatistics token_log_probs_rows(at::Tensor& logits, const at::Tensor& targets, bool makes_gradient,
                                     const at::Tensor& row_scales) {
  DSFT_CHECK(logits.dim() == 2 && logits.is_contiguous() && targets.numel() == logits.size(0) &&
                 (!row_scales.defined() || (makes_gradient && row_scales.numel() == logits.size(0) &&
                                            row_scales.scalar_type() == at::kFloat && row_scales.is_contiguous())),
             "log-probabilities of ", logits.sizes());
  const float* scales = row_scales.defined() ? row_scales.const_data_ptr<float>() : nullptr;
  if (logits.is_cpu() && logits.scalar_type() != at::kDouble) {
    TokenStatistics statistics{at::empty({logits.size(0)}, at::kFloat), at::empty({logits.size(0)}, at::kBool)};
    visit_float_type(logits.scalar_type(), [&](auto type) {
      using T = decltype(type);
      at::parallel_for(0, logits.size(0), 1, [&](int64_t begin, int64_t end) {
        cpu::token_log_probs_rows<T>(logits.data_ptr<T>(), targets.const_data_ptr<int64_t>(),
                                     statistics.log_probs.data_ptr<float>(), statistics.is_argmax.data_ptr<bool>(),
                                     makes_gradient, scales, begin, end, logits.size(1));
      });
    });
    return statistics;
  }
  if (cuda::takes(logits)) {
    TokenStatistics statistics{at::empty({logits.size(0)}, logits.options().dtype(at::kFloat)),
                               at::empty({logits.size(0)}, logits.options().dtype(at::kBool))};
    cuda::token_log_probs_rows(logits.data_ptr(), targets.const_data_ptr<int64_t>(),
                               statistics.log_probs.data_ptr<float>(), statistics.is_argmax.data_ptr<bool>(),
                               makes_gradient, scales, logits.size(0), logits.size(1), cuda::float_type(logits),
                               cuda::stream_for(logits));
    return statistics;
  }
  const at::Tensor wide = at::log_softmax(logits, -1, logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  const at::Tensor column = targets.unsqueeze(1);
  TokenStatistics statistics{wide.gather(1, column).squeeze(1), logits.argmax(-1).eq(targets)};
  if (makes_gradient) {
    logits.copy_(wide.exp().neg());
    logits.scatter_add_(1, column, at::ones_like(column, logits.options()));
    if (scales) logits.mul_(row_scales.unsqueeze(1));
  }
  return statistics;
}

}  // namespace dsft::kernels
