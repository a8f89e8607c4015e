#include "kernels/rms_norm.h"

#include <ATen/Parallel.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include "kernels/cuda_tensors.h"
#include "kernels/float_types.h"
#include "kernels/rms_norm_cpu.h"
#include "kernels/rms_norm_cuda.h"

namespace dsft::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kGrainElements = 16384;  // work of one task that is worth a thread

bool has_kernel(const at::Tensor& x) {
  if (x.is_cpu()) return x.scalar_type() != at::kDouble;
  return cuda::takes(x) && cuda::has_rms_norm(cuda::float_type(x), x.size(-1));
}

std::pair<at::Tensor, at::Tensor> forward_cpu(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const int64_t size = x.size(-1), rows = x.numel() / std::max<int64_t>(size, 1);
  at::Tensor y = at::empty_like(x), inverse_rms = at::empty({rows}, at::kFloat);
  visit_float_type(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, rows, std::max<int64_t>(1, kGrainElements / size), [&](int64_t begin, int64_t end) {
      cpu::rms_norm_rows<T>(x.const_data_ptr<T>(), weight.const_data_ptr<T>(), y.data_ptr<T>(),
                            inverse_rms.data_ptr<float>(), begin, end, size, static_cast<float>(eps));
    });
  });
  return {y, inverse_rms};
}

std::pair<at::Tensor, at::Tensor> backward_cpu(const at::Tensor& gradient, const at::Tensor& x,
                                               const at::Tensor& weight, const at::Tensor& inverse_rms,
                                               bool needs_weight) {
  const int64_t size = x.size(-1), rows = inverse_rms.numel();
  at::Tensor x_gradient = at::empty_like(x);
  // Fixed slices of rows, summed in order: the weight's gradient does not depend on the number of threads.
  const int64_t slice_rows = 256, num_slices = (rows + slice_rows - 1) / slice_rows;
  at::Tensor parts = needs_weight ? at::zeros({num_slices, size}, at::kFloat) : at::Tensor();
  visit_float_type(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, num_slices, 1, [&](int64_t begin, int64_t end) {
      for (int64_t slice = begin; slice < end; ++slice)
        cpu::rms_norm_backward_rows<T>(gradient.const_data_ptr<T>(), x.const_data_ptr<T>(), weight.const_data_ptr<T>(),
                                       inverse_rms.const_data_ptr<float>(), x_gradient.data_ptr<T>(),
                                       needs_weight ? parts.data_ptr<float>() + slice * size : nullptr,
                                       slice * slice_rows, std::min(rows, (slice + 1) * slice_rows), size);
    });
  });
  return {x_gradient, needs_weight ? parts.sum(0).to(weight.scalar_type()) : at::Tensor()};
}

std::pair<at::Tensor, at::Tensor> forward_cuda(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const int64_t size = x.size(-1), rows = x.numel() / size;
  at::Tensor y = at::empty_like(x), inverse_rms = at::empty({rows}, x.options().dtype(at::kFloat));
  cuda::rms_norm(x.const_data_ptr(), {}, weight.const_data_ptr(), y.data_ptr(), inverse_rms.data_ptr<float>(), rows,
                 size, static_cast<float>(eps), cuda::float_type(x), cuda::stream_for(x));
  return {y, inverse_rms};
}

std::pair<at::Tensor, at::Tensor> backward_cuda(const at::Tensor& gradient, const at::Tensor& x,
                                                const at::Tensor& weight, const at::Tensor& inverse_rms,
                                                bool needs_weight, const at::Tensor& sum_gradient = {}) {
  const int64_t size = x.size(-1), rows = inverse_rms.numel();
  at::Tensor x_gradient = at::empty_like(x), parts;
  if (needs_weight) {
    const int64_t num_parts = rows > 0 ? cuda::rms_norm_num_parts(cuda::float_type(x), size) : 0;
    parts = at::empty({num_parts, size}, inverse_rms.options());
  }
  cuda::rms_norm_backward(gradient.const_data_ptr(), sum_gradient.defined() ? sum_gradient.const_data_ptr() : nullptr,
                          x.const_data_ptr(), weight.const_data_ptr(), inverse_rms.const_data_ptr<float>(),
                          x_gradient.data_ptr(), needs_weight ? parts.data_ptr<float>() : nullptr, rows, size,
                          cuda::float_type(x), cuda::stream_for(x));
  return {x_gradient, needs_weight ? parts.sum(0).to(weight.scalar_type()) : at::Tensor()};
}

at::Tensor normalize(const at::Tensor& x, double eps) {
  const at::Tensor wide = x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
  return (wide * at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps)).to(x.scalar_type());
}

class RmsNorm : public torch::autograd::Function<RmsNorm> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, double eps) {
    auto [y, inverse_rms] = x.is_cpu() ? forward_cpu(x, weight, eps) : forward_cuda(x, weight, eps);
    context->save_for_backward({x, weight, inverse_rms});
    return y;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor gradient = gradients[0].contiguous();
    const bool needs_weight = context->needs_input_grad(1);
    auto [x_gradient, weight_gradient] = saved[0].is_cpu()
                                             ? backward_cpu(gradient, saved[0], saved[1], saved[2], needs_weight)
                                             : backward_cuda(gradient, saved[0], saved[1], saved[2], needs_weight);
    return {x_gradient, weight_gradient, at::Tensor()};
  }
};

class AddRmsNorm : public torch::autograd::Function<AddRmsNorm> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& residual,
                               const at::Tensor& weight, double eps) {
    const int64_t size = x.size(-1), rows = x.numel() / size;
    at::Tensor sum = at::empty_like(x), y = at::empty_like(x);
    at::Tensor inverse_rms = at::empty({rows}, x.options().dtype(at::kFloat));
    cuda::rms_norm(x.const_data_ptr(), {.residual = residual.const_data_ptr(), .sum = sum.data_ptr()},
                   weight.const_data_ptr(), y.data_ptr(), inverse_rms.data_ptr<float>(), rows, size,
                   static_cast<float>(eps), cuda::float_type(x), cuda::stream_for(x));
    context->save_for_backward({sum, weight, inverse_rms});
    return {sum, y};
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    auto [gradient, weight_gradient] = backward_cuda(gradients[1].contiguous(), saved[0], saved[1], saved[2],
                                                     context->needs_input_grad(2), gradients[0].contiguous());
    return {gradient, gradient, weight_gradient, at::Tensor()};
  }
};

// The sum of x and parts [P, T, D], and its norm, without gradient.
NormedSum add_parts(const at::Tensor& x, const at::Tensor& parts, const at::Tensor& weight, double eps) {
  DSFT_CHECK(!at::GradMode::is_enabled() && x.dim() == 2 && weight.dim() == 1 && weight.size(0) == x.size(1) &&
                 weight.scalar_type() == x.scalar_type() && parts.size(1) == x.size(0) && parts.size(2) == x.size(1) &&
                 parts.scalar_type() == at::kFloat,
             "add_rms_norm of ", x.sizes(), " and parts ", parts.sizes());
  if (!x.is_cuda() || !has_kernel(x)) {
    const at::Tensor sum = x + parts.sum(0).to(x.scalar_type());
    return {sum, rms_norm(sum, weight, eps)};
  }
  const at::Tensor in = x.contiguous(), dense = parts.contiguous();
  at::Tensor sum = at::empty_like(in), y = at::empty_like(in);
  cuda::rms_norm(in.const_data_ptr(),
                 {.parts = dense.const_data_ptr<float>(), .num_parts = dense.size(0), .sum = sum.data_ptr()},
                 weight.const_data_ptr(), y.data_ptr(), /*inverse_rms=*/nullptr, in.size(0), in.size(1),
                 static_cast<float>(eps), cuda::float_type(in), cuda::stream_for(in));
  return {sum, y};
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  DSFT_CHECK(weight.dim() == 1 && x.size(-1) == weight.size(0) && x.scalar_type() == weight.scalar_type(),
             "rms_norm of ", x.sizes(), " by ", weight.sizes());
  if (has_kernel(x)) return RmsNorm::apply(x.contiguous(), weight, eps);
  return normalize(x, eps) * weight;
}

NormedSum add_rms_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, double eps) {
  if (residual.dim() == x.dim() + 1) return add_parts(x, residual, weight, eps);
  DSFT_CHECK(x.sizes() == residual.sizes() && x.scalar_type() == residual.scalar_type() && weight.dim() == 1 &&
                 x.size(-1) == weight.size(0) && x.scalar_type() == weight.scalar_type(),
             "add_rms_norm of ", x.sizes(), " and ", residual.sizes(), " by ", weight.sizes());
  if (x.is_cuda() && has_kernel(x)) {
    const auto results = AddRmsNorm::apply(x.contiguous(), residual.contiguous(), weight, eps);
    return {results[0], results[1]};
  }
  const at::Tensor sum = x + residual;
  return {sum, rms_norm(sum, weight, eps)};
}

}  // namespace dsft::kernels
