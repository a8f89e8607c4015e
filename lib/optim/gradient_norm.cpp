#include "optim/gradient_norm.h"

#include <torch/types.h>

#include <ATen/Parallel.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "device/device.h"
#include "kernels/cuda_tensors.h"
#include "optim/adamw_cpu.h"
#include "optim/gradient_norm_cuda.h"

namespace dsft::optim {
namespace {

constexpr int64_t kChunkElements = 1 << 16;

template <typename Value>
double sum_on_cpu(const at::Tensor& values) {
  const int64_t numel = values.numel(), num_chunks = (numel + kChunkElements - 1) / kChunkElements;
  std::vector<double> sums(static_cast<size_t>(num_chunks));
  const auto* data = values.const_data_ptr<Value>();
  at::parallel_for(0, num_chunks, 1, [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk) {
      sums[chunk] = cpu::sum_of_squares(data, chunk * kChunkElements, std::min(numel, (chunk + 1) * kChunkElements));
    }
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

template <typename Value>
void add_on_cpu(at::Tensor& sum, const at::Tensor& values) {
  float* to = sum.data_ptr<float>();
  const auto* from = values.const_data_ptr<Value>();
  at::parallel_for(0, sum.numel(), kChunkElements,
                   [&](int64_t begin, int64_t end) { cpu::add_elements(to, from, begin, end); });
}

}  // namespace

at::Tensor sum_of_squares(const at::Tensor& values) {
  at::NoGradGuard no_grad;
  if (!values.is_cuda()) return at::scalar_tensor(sum_of_squares_on_host(values), at::kDouble);
  DSFT_CHECK(values.scalar_type() == at::kFloat && values.is_contiguous(), "a gradient that is not contiguous fp32");
  DSFT_CHECK(kernels::cuda::is_aligned(values), "the GPU sums squares from a place that is no multiple of 16 bytes");
  at::Tensor result = at::empty({}, values.options().dtype(at::kDouble)),
             parts = at::empty({cuda::sum_of_squares_parts()}, result.options());
  cuda::sum_of_squares(values.const_data_ptr<float>(), values.numel(), parts.data_ptr<double>(),
                       result.data_ptr<double>(), device::current_stream(values.device()));
  return result;
}

double sum_of_squares_on_host(const at::Tensor& values) {
  DSFT_CHECK(values.is_cpu() && values.is_contiguous(), "a gradient that is not contiguous on the host");
  if (values.scalar_type() == at::kBFloat16) return sum_on_cpu<c10::BFloat16>(values);
  if (values.scalar_type() == at::kHalf) return sum_on_cpu<c10::Half>(values);
  DSFT_CHECK(values.scalar_type() == at::kFloat, "a gradient in ", c10::toString(values.scalar_type()));
  return sum_on_cpu<float>(values);
}

void add_on_host(at::Tensor& sum, const at::Tensor& values) {
  DSFT_CHECK(sum.is_cpu() && sum.is_contiguous() && sum.scalar_type() == at::kFloat && values.is_cpu() &&
                 values.is_contiguous() && values.numel() == sum.numel(),
             "gradients on the host do not fit their sum");
  if (values.scalar_type() == at::kBFloat16) return add_on_cpu<c10::BFloat16>(sum, values);
  if (values.scalar_type() == at::kHalf) return add_on_cpu<c10::Half>(sum, values);
  DSFT_CHECK(values.scalar_type() == at::kFloat, "a gradient in ", c10::toString(values.scalar_type()));
  add_on_cpu<float>(sum, values);
}

at::Tensor clip_factor(const at::Tensor& norm, double max_norm) {
  if (max_norm <= 0) return at::ones_like(norm);
  return (max_norm / (norm + 1e-6)).clamp_max(1.0);
}

}  // namespace dsft::optim
