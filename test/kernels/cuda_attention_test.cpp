// Attention on a GPU against float64 on the CPU.
#include <torch/types.h>

#include <future>

#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "kernels/against_float64.h"
#include "kernels/cudnn_attention.h"
#include "kernels/rotary.h"
#include "kernels/rotary_attention.h"
#include "kernels/varlen_attention.h"

using namespace dsft;
using namespace dsft::kernels;
using test::check_against_float64;
using test::kGpu;
using test::largest;

TEST_CASE("CUDA: attention of packed projections agrees with float64, values and gradients", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(9);
  const int64_t half = GENERATE(32, 64, 128), window = GENERATE(0, 9);
  const bool has_norms = GENERATE(true, false);
  const PackedHeads heads{4, 2, 2 * half};
  const std::vector<int64_t> boundaries = {0, 17, 18, 50};
  const at::Tensor angle = torch::randn({50, half});
  INFO("heads of " << heads.head_dim << ", window " << window << (has_norms ? ", normalised" : ""));
  const auto norms_of = [&](auto& in) { return has_norms ? HeadNorms{in[1], in[2], 1e-6} : HeadNorms{}; };
  const auto fused = [&](auto& in) {
    const at::Device device = in[0].device();
    return rotary_attention(in[0], heads, norms_of(in), {angle.cos().to(device), angle.sin().to(device)},
                            make_documents(boundaries, device), 0.2, window);
  };
  const auto plain = [&](auto& in) {
    const at::ScalarType own = in[0].scalar_type(), type = own == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor c = angle.cos().to(in[0].device(), type).unsqueeze(1),
                     s = angle.sin().to(in[0].device(), type).unsqueeze(1);
    const at::Tensor split = in[0].unflatten(1, {8, heads.head_dim});
    const auto turned = [&](int64_t first, int64_t count, int64_t weight) {
      at::Tensor x = split.narrow(1, first, count).to(type);
      if (has_norms) x = (x * torch::rsqrt(x.square().mean(-1, true) + 1e-6)).to(own) * in[weight];
      const auto halves = x.to(type).chunk(2, -1);
      return at::cat({halves[0] * c - halves[1] * s, halves[1] * c + halves[0] * s}, -1).to(own);
    };
    return varlen_attention_by_documents(turned(0, 4, 1), turned(4, 2, 2), split.narrow(1, 6, 2), boundaries, 0.2,
                                         window)
               .reshape({50, -1}) +
           (has_norms ? at::Tensor(at::zeros({}, in[0].options())) : (in[1] * 0).sum() + (in[2] * 0).sum());
  };
  const auto fused_too = [&](auto& in) {
    return has_norms ? fused(in) : fused(in) + (in[1] * 0).sum() + (in[2] * 0).sum();
  };
  check_against_float64("rotary_attention", fused_too, plain,
                        {torch::randn({50, heads.width()}), torch::randn({2 * half}), torch::randn({2 * half})}, 3e-5);
}

TEST_CASE("CUDA: attention that was prepared on a thread builds no plan later", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  const PackedHeads heads{4, 2, 64};
  const auto options = at::TensorOptions(at::kBFloat16).device(kGpu);
  if (!cudnn::may_take(options, heads.head_dim)) SKIP("cuDNN is not used on this GPU");
  const double scale = 0.1234;  // a shape that no other test has
  const int64_t before = cudnn::num_plans();
  std::async(std::launch::async, [&] {
    for (const int64_t window : {0, 4096})  // a window that holds every document is none
      prepare_rotary_attention(options, heads, make_documents({0, 100, 250, 300}, kGpu), scale, window);
  }).get();
  CHECK(cudnn::num_plans() == before + 2);
  const at::Tensor qkv = torch::randn({400, heads.width()}, options).requires_grad_(true);
  const at::Tensor cos = torch::ones({400, 32}, options.dtype(at::kFloat)), sin = torch::zeros_like(cos);
  rotary_attention(qkv, heads, {}, {cos, sin}, make_documents({0, 90, 260, 330, 400}, kGpu), scale).sum().backward();
  CHECK(qkv.grad().isfinite().all().item<bool>());
  CHECK(cudnn::num_plans() == before + 2);
}

TEST_CASE("CUDA: attention over packed documents agrees with float64", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(4);
  const int64_t window = GENERATE(0, 5, 64), heads = 4, kv_heads = GENERATE(1, 2, 4), head_dim = GENERATE(16, 64, 128);
  const std::vector<int64_t> boundaries = {0, 1, 38, 38 + 200, 256};
  const auto on_cpu = [&](auto& in) {
    return varlen_attention_by_documents(in[0], in[1], in[2], boundaries, 0.3, window);
  };
  const auto on_gpu = [&](auto& in) {
    return varlen_attention(in[0], in[1], in[2], make_documents(boundaries, in[0].device()), 0.3, window);
  };
  check_against_float64("attention", on_gpu, on_cpu,
                        {torch::randn({256, heads, head_dim}), torch::randn({256, kv_heads, head_dim}),
                         torch::randn({256, kv_heads, head_dim})},
                        2e-5);
}
