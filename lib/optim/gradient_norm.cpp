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

}  // namespace

at::Tensor sum_of_squares(const at::Tensor& values) {
  at::NoGradGuard no_grad;
  DSFT_CHECK(values.scalar_type() == at::kFloat && values.is_contiguous(), "a gradient that is not contiguous fp32");
  if (values.is_cuda()) {
    DSFT_CHECK(kernels::cuda::is_aligned(values), "the GPU sums squares from a place that is no multiple of 16 bytes");
    at::Tensor result = at::empty({}, values.options().dtype(at::kDouble)),
               parts = at::empty({cuda::sum_of_squares_parts()}, result.options());
    cuda::sum_of_squares(values.const_data_ptr<float>(), values.numel(), parts.data_ptr<double>(),
                         result.data_ptr<double>(), device::current_stream(values.device()));
    return result;
  }
  const int64_t numel = values.numel(), num_chunks = (numel + kChunkElements - 1) / kChunkElements;
  std::vector<double> sums(static_cast<size_t>(num_chunks));
  const float* data = values.const_data_ptr<float>();
  at::parallel_for(0, num_chunks, 1, [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk) {
      sums[chunk] = cpu::sum_of_squares(data, chunk * kChunkElements, std::min(numel, (chunk + 1) * kChunkElements));
    }
  });
  return at::scalar_tensor(std::accumulate(sums.begin(), sums.end(), 0.0), at::kDouble);
}

at::Tensor clip_factor(const at::Tensor& norm, double max_norm) {
  if (max_norm <= 0) return at::ones_like(norm);
  return (max_norm / (norm + 1e-6)).clamp_max(1.0);
}

}  // namespace dsft::optim
