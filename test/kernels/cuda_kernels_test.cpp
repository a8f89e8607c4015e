// The CUDA kernels against LibTorch's own operations in float64 on the CPU.
#include <torch/types.h>

#include <future>
#include <numeric>

#include "base/counter_random.h"
#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "kernels/counter_dropout.h"
#include "kernels/cudnn_attention.h"
#include "kernels/dropped_products.h"
#include "kernels/embedding_gradient.h"
#include "kernels/few_rows_product.h"
#include "kernels/float_products.h"
#include "kernels/packed_adapters.h"
#include "kernels/rms_norm.h"
#include "kernels/rotary.h"
#include "kernels/rotary_attention.h"
#include "kernels/sample_tokens.h"
#include "kernels/swiglu.h"
#include "kernels/token_log_probs_rows.h"
#include "kernels/varlen_attention.h"
#include "support/on_gpu.h"

using namespace dsft;
using namespace dsft::kernels;
using test::kGpu;
using test::largest;

namespace {

using Operation = std::function<at::Tensor(std::vector<at::Tensor>&)>;

/// Output and gradients of sum(f(inputs) * direction), as float64 on the CPU.
std::vector<at::Tensor> results_of(const Operation& f, const std::vector<at::Tensor>& inputs, at::ScalarType type,
                                   at::Device device, const at::Tensor& direction) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& input : inputs) leaves.push_back(input.to(device, type).detach().requires_grad_(true));
  const at::Tensor out = f(leaves);
  out.backward(direction.to(device, type));
  std::vector<at::Tensor> results = {out.detach().to(at::kCPU, at::kDouble)};
  for (const at::Tensor& leaf : leaves) results.push_back(leaf.grad().to(at::kCPU, at::kDouble));
  return results;
}

/// Values and gradients: in fp32 within rounding of float64; in bf16 no further from float64 than the operations of
/// `unfused` in bf16 are, but for one rounding of the result.
void check(const char* name, const Operation& f, const Operation& unfused, std::vector<at::Tensor> inputs,
           double fp32_bound) {
  INFO(name);
  const at::Tensor direction = torch::randn(f(inputs).sizes());
  const auto exact = results_of(unfused, inputs, at::kDouble, at::kCPU, direction);
  const auto actual = results_of(f, inputs, at::kFloat, kGpu, direction);
  for (size_t i = 0; i < exact.size(); ++i) {
    INFO("result " << i);
    CHECK(largest(actual[i] - exact[i]) < fp32_bound * std::max(1.0, largest(exact[i])));
  }
  for (at::Tensor& input : inputs) input = input.to(at::kBFloat16).to(at::kFloat);
  const at::Tensor narrow = direction.to(at::kBFloat16).to(at::kFloat);
  const auto rounded_exact = results_of(unfused, inputs, at::kDouble, at::kCPU, narrow);
  const auto fused = results_of(f, inputs, at::kBFloat16, kGpu, narrow);
  const auto plain = results_of(unfused, inputs, at::kBFloat16, kGpu, narrow);
  for (size_t i = 0; i < exact.size(); ++i) {
    INFO("bf16 result " << i);
    const double rounding = largest(rounded_exact[i]) / 256;
    CHECK(largest(fused[i] - rounded_exact[i]) <= largest(plain[i] - rounded_exact[i]) + rounding);
  }
}

}  // namespace

TEST_CASE("CUDA kernels agree with LibTorch's own operations in float64, values and gradients", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(1);
  for (const int64_t size : {8, 128, 1024, 3584, 8192}) {
    INFO("rows of " << size);
    const auto norm = [](auto& in) { return rms_norm(in[0], in[1], 1e-6); };
    const auto plain = [](auto& in) {
      const at::Tensor wide = in[0].scalar_type() == at::kDouble ? in[0] : in[0].to(at::kFloat);
      return (wide * torch::rsqrt(wide.square().mean(-1, true) + 1e-6)).to(in[0].scalar_type()) * in[1];
    };
    check("rms_norm", norm, plain, {torch::randn({300, size}) * 3, torch::randn({size})}, 2e-5);
    const auto of_sum = [](auto& in) {
      const NormedSum result = add_rms_norm(in[0], in[1], in[2], 1e-6);
      return result.sum + 2 * result.normed;
    };
    const auto plain_of_sum = [&](auto& in) {
      std::vector<at::Tensor> summed = {in[0] + in[1], in[2]};
      return summed[0] + 2 * plain(summed);
    };
    check("add_rms_norm", of_sum, plain_of_sum,
          {torch::randn({300, size}) * 3, torch::randn({300, size}), torch::randn({size})}, 2e-5);
  }
  for (const int64_t half : {4, 32, 64}) {
    const at::Tensor angle = torch::randn({37, half});
    const auto turn = [&](auto& in) {
      return rotate(in[0], angle.cos().to(in[0].device()), angle.sin().to(in[0].device()));
    };
    const auto plain = [&](auto& in) {
      const auto type = in[0].scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
      const auto halves = in[0].to(type).chunk(2, -1);
      const at::Tensor c = angle.cos().to(in[0].device(), type).unsqueeze(1),
                       s = angle.sin().to(in[0].device(), type).unsqueeze(1);
      return at::cat({halves[0] * c - halves[1] * s, halves[1] * c + halves[0] * s}, -1).to(in[0].scalar_type());
    };
    check("rotate", turn, plain, {torch::randn({37, 3, 2 * half})}, 1e-5);
  }
  check(
      "swiglu", [](auto& in) { return swiglu(in[0]); },
      [](auto& in) { return at::silu(in[0].narrow(1, 0, 53)) * in[0].narrow(1, 53, 53); },
      {torch::randn({37, 106}) * 8}, 1e-5);
  check(
      "swiglu of whole vectors", [](auto& in) { return swiglu(in[0]); },
      [](auto& in) { return at::silu(in[0].narrow(1, 0, 64)) * in[0].narrow(1, 64, 64); },
      {torch::randn({37, 128}) * 8}, 1e-5);
  check(
      "swiglu in place", [](auto& in) { return swiglu(in[0] + in[0]); },
      [](auto& in) { return at::silu(in[0].narrow(1, 0, 64) * 2) * (in[0].narrow(1, 64, 64) * 2); },
      {torch::randn({37, 128}) * 4}, 1e-5);
}

TEST_CASE("CUDA: a product in parts and the norm that adds them up round once", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(14);
  const torch::NoGradGuard no_grad;
  const auto type = GENERATE(at::kBFloat16, at::kHalf);
  const int64_t tokens = GENERATE(1, 64, 128), size = GENERATE(576, 1024, 3584), in = GENERATE(1024, 3072);
  INFO(c10::toString(type) << ", " << tokens << " tokens, " << in << " to " << size);
  const auto options = at::TensorOptions(type).device(kGpu);
  const at::Tensor x = torch::randn({tokens, in}, options), weight = torch::randn({size, in}, options) * 0.02,
                   base = torch::randn({tokens, size}, options), norm = torch::rand({size}, options) + 0.5;
  const at::Tensor parts = multiply_in_parts(x, weight);
  REQUIRE(parts.sizes() == at::IntArrayRef({8, tokens, size}));
  const NormedSum result = add_rms_norm(base, parts, norm, 1e-6);
  const at::Tensor exact = base.to(at::kDouble) + x.to(at::kDouble).matmul(weight.to(at::kDouble).t());
  const at::Tensor normed = exact * (exact.square().mean(-1, true) + 1e-6).rsqrt() * norm.to(at::kDouble);
  const double rounding = type == at::kHalf ? 1.0 / 2048 : 1.0 / 256;
  CHECK(largest(result.sum.to(at::kDouble) - exact) <= rounding * largest(exact));
  CHECK(largest(result.normed.to(at::kDouble) - normed) <= 3 * rounding * largest(normed));
  CHECK_FALSE(multiply_in_parts(x.repeat({200, 1}), weight).defined());
  CHECK_FALSE(multiply_in_parts(x.to(at::kFloat), weight.to(at::kFloat)).defined());
}

TEST_CASE("CUDA: a product of few rows rounds once, and a row's result is its own", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(14);
  const torch::NoGradGuard no_grad;
  const auto type = GENERATE(at::kBFloat16, at::kHalf);
  const auto [out, in] = GENERATE(std::pair<int64_t, int64_t>{1024, 3072}, std::pair<int64_t, int64_t>{4096, 1024},
                                  std::pair<int64_t, int64_t>{12144, 576}, std::pair<int64_t, int64_t>{104, 288});
  const int64_t tokens = GENERATE(1, 8, 13, 16);
  INFO(c10::toString(type) << ", " << tokens << " tokens, " << in << " to " << out);
  const auto options = at::TensorOptions(type).device(kGpu);
  const at::Tensor x = torch::randn({tokens, in}, options), weight = torch::randn({out, in}, options) * 0.05,
                   bias = torch::randn({out}, options);
  const at::Tensor y = multiply_few_rows(x, weight, bias);
  if (!y.defined()) {
    // H100 and H200 have one
    REQUIRE(device::device_name(kGpu).find("NVIDIA H") == std::string::npos);
    SKIP("this GPU has no kernel for few rows");
  }
  const at::Tensor product = x.to(at::kDouble).matmul(weight.to(at::kDouble).t());
  const double rounding = type == at::kHalf ? 1.0 / 2048 : 1.0 / 256;
  const auto check = [&](const at::Tensor& actual, const at::Tensor& exact) {
    REQUIRE(actual.sizes() == exact.sizes());
    CHECK(at::all((actual.to(at::kDouble) - exact).abs() <= exact.abs() * rounding + 1e-4).item<bool>());
  };
  check(y, product + bias.to(at::kDouble));
  check(multiply_few_rows(x, weight), product);
  if (tokens > 1)
    CHECK(at::equal(multiply_few_rows(x, weight).slice(0, tokens / 2),
                    multiply_few_rows(x.flip(0), weight).flip(0).slice(0, tokens / 2)));
  const at::Tensor narrow = multiply_few_rows(x, weight);
  CHECK(at::equal(multiply_few_rows_gated(x, weight), swiglu(narrow)));
  CHECK_FALSE(multiply_few_rows(x.repeat({17, 1}), weight).defined());
  CHECK_FALSE(multiply_few_rows(x.to(at::kFloat), weight.to(at::kFloat)).defined());
}

TEST_CASE("CUDA: packed adapters give what each gives in its columns, and nothing elsewhere", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(15);
  const auto type = GENERATE(at::kBFloat16, at::kHalf);
  const auto options = at::TensorOptions(at::kFloat).device(kGpu);
  const at::Tensor x = torch::randn({5, 40}, options.dtype(type));
  std::vector<AdapterOfColumns> adapters;
  for (const int64_t i : {0, 2}) {  // columns 16 to 40 have none
    AdapterOfColumns adapter{.a = torch::randn({3 + i, 40}, options), .b = torch::randn({16, 3 + i}, options)};
    adapter.scale = 0.5 + static_cast<double>(i);
    adapter.first = i * 20;
    adapter.first_rank = i == 0 ? 0 : 3;
    adapters.push_back(adapter);
  }
  const PackedAdapters packed = pack_adapters(adapters, 56, x);
  at::Tensor a = torch::zeros({8, 40}, options), b = torch::zeros({56, 8}, options);
  for (const AdapterOfColumns& adapter : adapters) {
    const int64_t rank = adapter.a.size(0);
    a.narrow(0, adapter.first_rank, rank).copy_(adapter.a);
    b.narrow(0, adapter.first, 16).narrow(1, adapter.first_rank, rank).copy_(adapter.b * adapter.scale);
  }
  CHECK(torch::equal(packed.a, a.to(type)));
  CHECK(torch::equal(packed.b, b.to(type)));
}

TEST_CASE("CUDA: gradients of packed adapters are added to each adapter's own", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(16);
  struct Sizes {
    int64_t in, columns;
    std::vector<int64_t> firsts, widths, ranks;
  };
  const Sizes sizes =
      GENERATE(Sizes{40, 56, {0, 40}, {16, 9}, {3, 5}},  // columns 16 to 40, 49 to 56 have none
               Sizes{1024, 4096, {0, 2048, 3072}, {2048, 1024, 1024}, {16, 16, 16}},
               Sizes{33, 40, {0, 5, 10, 15, 20, 25, 30, 35}, {5, 5, 5, 5, 5, 5, 5, 5}, {1, 2, 3, 4, 5, 6, 7, 8}});
  const bool adds_a = GENERATE(true, false), adds_b = GENERATE(true, false);
  INFO(sizes.widths.size() << " adapters, " << (adds_a ? "a " : "") << (adds_b ? "b" : ""));
  const auto options = at::TensorOptions(at::kFloat).device(kGpu);
  const int64_t ranks = std::accumulate(sizes.ranks.begin(), sizes.ranks.end(), int64_t{0});
  const at::Tensor a = torch::randn({ranks, sizes.in}, options), b = torch::randn({sizes.columns, ranks}, options);
  // Views of one buffer at odd offsets, with a float between any two.
  const at::Tensor start = torch::randn({1 + ranks * (sizes.in + sizes.columns) + 32}, options);
  at::Tensor buffer = start.clone(), expected = start.to(at::kDouble);
  std::vector<AdapterOfColumns> sums;
  int64_t offset = 1, first_rank = 0;
  for (size_t i = 0; i < sizes.widths.size(); ++i) {
    const int64_t width = sizes.widths[i], rank = sizes.ranks[i];
    const double scale = 0.5 + static_cast<double>(i);
    const auto next = [&](int64_t rows, int64_t columns, const at::Tensor& added) {
      const at::Tensor view = buffer.narrow(0, offset, rows * columns).view({rows, columns});
      if (added.defined()) expected.narrow(0, offset, rows * columns).view({rows, columns}).add_(added);
      offset += rows * columns + 1;
      return view;
    };
    const at::Tensor of_a = a.narrow(0, first_rank, rank).to(at::kDouble),
                     of_b = b.narrow(0, sizes.firsts[i], width).narrow(1, first_rank, rank).to(at::kDouble) * scale;
    AdapterOfColumns sum;
    sum.a = next(rank, sizes.in, adds_a ? of_a : at::Tensor());
    sum.b = next(width, rank, adds_b ? of_b : at::Tensor());
    sum.scale = scale;
    sum.first = sizes.firsts[i];
    sum.first_rank = first_rank;
    sums.push_back(sum);
    first_rank += rank;
  }
  add_unpacked_gradients({adds_a ? a : at::Tensor(), adds_b ? b : at::Tensor()}, sums);
  CHECK(largest(buffer - expected) < 1e-6 * largest(expected));
  const at::Tensor is_untouched = expected == start.to(at::kDouble);
  CHECK(torch::equal(buffer.masked_select(is_untouched), start.masked_select(is_untouched)));
  CHECK(is_untouched[0].item<bool>());
}

TEST_CASE("CUDA: products are added to fp32 sums without rounding to 16 bits", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(12);
  const auto type = GENERATE(at::kFloat, at::kBFloat16, at::kHalf);
  const int64_t tokens = GENERATE(1, 100, 512), rows = GENERATE(8, 100), columns = GENERATE(16, 136);
  INFO(c10::toString(type) << ", " << rows << " x " << columns << " of " << tokens);
  const auto options = at::TensorOptions(type).device(kGpu);
  const at::Tensor a = torch::randn({tokens, rows + 8}, options).narrow(1, 8, rows),  // rows that lie apart
      b = torch::randn({tokens, columns}, options);
  const at::Tensor start = torch::randn({rows * columns + 16}, options.dtype(at::kFloat));
  at::Tensor sum = start.clone();
  add_product(sum.narrow(0, 16, rows * columns).view({rows, columns}), a.t(), b, 0.5);
  const at::Tensor exact = start.narrow(0, 16, rows * columns).view({rows, columns}).to(at::kDouble) +
                           a.to(at::kDouble).t().matmul(b.to(at::kDouble)) * 0.5;
  CHECK(largest(sum.narrow(0, 16, rows * columns).view({rows, columns}) - exact) < 1e-5 * largest(exact));
  CHECK(torch::equal(sum.narrow(0, 0, 16), start.narrow(0, 0, 16)));
}

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
  check("rotary_attention", fused_too, plain,
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

TEST_CASE("CUDA: the weight of a norm that is frozen gets no gradient, a slice of a row is rotated", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  const at::Tensor x = torch::randn({5, 64}).to(kGpu).requires_grad_(true), weight = torch::randn({64}).to(kGpu);
  rms_norm(x, weight, 1e-6).sum().backward();
  CHECK(x.grad().defined());
  CHECK_FALSE(weight.grad().defined());
  const at::Tensor rows = torch::randn({9, 10, 16}).to(kGpu), angle = torch::randn({9, 8}).to(kGpu);
  const at::Tensor part = rows.narrow(1, 3, 4);
  CHECK(torch::equal(rotate(part, angle.cos(), angle.sin()), rotate(part.contiguous(), angle.cos(), angle.sin())));
}

TEST_CASE("CUDA: token log-probabilities and their gradient agree with float64", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(2);
  const int64_t vocab_size = GENERATE(301, 4096, 50000, 100000);  // two passes; 1, 5 and 5 blocks of two kernels
  const at::Tensor logits = torch::randn({11, vocab_size}) * 6, targets = torch::randint(vocab_size, {11});
  at::Tensor reference = logits.to(at::kDouble).requires_grad_(true);
  const at::Tensor expected = torch::log_softmax(reference, -1).gather(1, targets.unsqueeze(1)).squeeze(1);
  expected.sum().backward();
  at::Tensor work = logits.to(kGpu), scaled = logits.to(kGpu);
  const TokenStatistics statistics = token_log_probs_rows(work, targets.to(kGpu), true);
  CHECK(largest(statistics.log_probs.cpu() - expected) < 2e-5);
  CHECK(largest(work.cpu() - reference.grad()) < 1e-6);
  const at::Tensor scales = torch::rand({11});
  token_log_probs_rows(scaled, targets.to(kGpu), true, scales.to(kGpu));
  CHECK(largest(scaled.cpu() - reference.grad() * scales.unsqueeze(1)) < 1e-6);
  CHECK(torch::equal(statistics.is_argmax.cpu(), logits.argmax(-1).eq(targets)));
  at::Tensor easy = at::zeros({3, vocab_size}).to(kGpu);
  easy[0][3] = 200.0;
  easy[2].fill_(-INFINITY);
  easy[2][5] = -3.0;
  const TokenStatistics extreme =
      token_log_probs_rows(easy, at::tensor({int64_t{3}, int64_t{1}, int64_t{5}}).to(kGpu), false);
  CHECK(extreme.log_probs[0].item<float>() == 0.0f);
  CHECK(extreme.is_argmax[0].item<bool>());
  CHECK_FALSE(extreme.is_argmax[1].item<bool>());  // all equal: the first wins
  CHECK(extreme.log_probs[2].item<float>() == 0.0f);
}

TEST_CASE("CUDA: with a temperature, log-probabilities, entropies and their gradients agree with float64",
          "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(3);
  const int64_t vocab_size = GENERATE(301, 4096, 50000, 100000);  // the kernels of the test above
  const double temperature = GENERATE(0.7, 1.0, 2.5);
  const at::Tensor logits = torch::randn({11, vocab_size}) * 6, targets = torch::randint(vocab_size, {11});
  at::Tensor reference = logits.to(at::kDouble).requires_grad_(true);
  const at::Tensor wide = torch::log_softmax(reference / temperature, -1);
  const at::Tensor expected = wide.gather(1, targets.unsqueeze(1)).squeeze(1), entropies = -(wide.exp() * wide).sum(-1);
  const at::Tensor scales = torch::randn({11}), entropy_scales = torch::randn({11});
  (expected * scales + entropies * entropy_scales).sum().backward();
  at::Tensor work = logits.to(kGpu), untouched = logits.to(kGpu);
  const PolicyRows policy{
      .temperature = temperature, .wants_entropies = true, .entropy_scales = entropy_scales.to(kGpu)};
  const TokenStatistics statistics = token_log_probs_rows(work, targets.to(kGpu), true, scales.to(kGpu), policy);
  const TokenStatistics values = token_log_probs_rows(untouched, targets.to(kGpu), false, {},
                                                      {.temperature = temperature, .wants_entropies = true});
  CHECK(torch::equal(untouched.cpu(), logits));
  for (const TokenStatistics& each : {statistics, values}) {
    CHECK(largest(each.log_probs.cpu() - expected) < 5e-5);
    CHECK(largest(each.entropies.cpu() - entropies) < 5e-5);
    CHECK(torch::equal(each.is_argmax.cpu(), logits.argmax(-1).eq(targets)));
  }
  CHECK(largest(work.cpu() - reference.grad()) < 5e-6);
  at::Tensor certain = torch::full({2, vocab_size}, -INFINITY).to(kGpu);
  certain[0][3] = 4.0;
  certain[1].fill_(2.0);
  const bool makes_gradient = GENERATE(false, true);
  const TokenStatistics extreme =
      token_log_probs_rows(certain, at::tensor({int64_t{3}, int64_t{1}}).to(kGpu), makes_gradient, {},
                           {.temperature = temperature, .wants_entropies = true});
  CHECK(std::abs(extreme.entropies[0].item<float>()) < 1e-5);
  CHECK(std::abs(extreme.entropies[1].item<float>() - std::log(static_cast<double>(vocab_size))) < 1e-4);
}

TEST_CASE("CUDA: in 16 bits entropies are those of the rounded logits", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(4);
  const auto type = GENERATE(at::kBFloat16, at::kHalf);
  const int64_t vocab_size = GENERATE(303, 151936);
  at::Tensor logits = (torch::randn({5, vocab_size}) * 4).to(type).to(kGpu);
  const at::Tensor wide = torch::log_softmax(logits.cpu().to(at::kDouble) / 0.8, -1);
  const at::Tensor targets = torch::randint(vocab_size, {5}).to(kGpu);
  const TokenStatistics statistics =
      token_log_probs_rows(logits, targets, true, {}, {.temperature = 0.8, .wants_entropies = true});
  CHECK(largest(statistics.entropies.cpu() + (wide.exp() * wide).sum(-1)) < 5e-5);
}

TEST_CASE("CUDA: the gradient of an embedding agrees with float64, the same in every run", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(3);
  const auto type = GENERATE(at::kFloat, at::kBFloat16, at::kHalf);
  const int64_t size = GENERATE(5, 64, 1536), tokens = 700, vocab_size = 1000;
  // one id stands in most places, some in none
  const at::Tensor ids = torch::where(torch::rand({tokens}) < 0.6, torch::full({tokens}, 7, at::kLong),
                                      torch::randint(vocab_size, {tokens}, at::kLong));
  const at::Tensor gradient = torch::randn({tokens, size}).to(type), before = torch::randn({vocab_size, size});
  const at::Tensor expected = before.to(at::kDouble).index_add(0, ids, gradient.to(at::kDouble));
  at::Tensor sum = before.to(kGpu), again = before.to(kGpu);
  const auto version = sum._version();
  add_embedding_gradient(sum, ids.to(kGpu), gradient.to(kGpu));
  CHECK(sum._version() > version);  // how an optimizer sees that gradients came
  add_embedding_gradient(again, ids.to(kGpu), gradient.to(kGpu));
  CHECK(largest(sum.cpu() - expected) < 1e-4);
  CHECK(torch::equal(sum, again));
  add_embedding_gradient(sum, ids.to(kGpu).slice(0, 0, 0), gradient.to(kGpu).slice(0, 0, 0));
  CHECK(torch::equal(sum, again));
}

TEST_CASE("CUDA: dropout is the CPU's to the bit", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  const auto type = GENERATE(at::kFloat, at::kBFloat16, at::kHalf);
  const int64_t size = GENERATE(8, 200, 1027), tokens = 64;
  const DropoutKeys keys{42, torch::arange(tokens, at::kLong).floor_divide(16) + sample_key(3, 0),
                         torch::arange(tokens, at::kLong) % 16};
  const DropoutKeys on_gpu{42, keys.sample_keys.to(kGpu), keys.positions.to(kGpu)};
  const at::Tensor x = torch::randn({tokens, size}).to(type);
  at::Tensor leaf = x.to(kGpu).requires_grad_(true);
  const at::Tensor y = counter_dropout(leaf, 0.25, hash_name("a"), on_gpu);
  CHECK(torch::equal(y.cpu(), counter_dropout(x, 0.25, hash_name("a"), keys)));
  y.backward(torch::ones_like(y));
  CHECK(torch::equal(leaf.grad().cpu(), counter_dropout(torch::ones_like(x), 0.25, hash_name("a"), keys)));
}

TEST_CASE("CUDA: products of dropped inputs are as near to float64 as those of what dropout writes", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(22);
  const auto type = GENERATE(at::kBFloat16, at::kHalf);
  const int64_t tokens = GENERATE(1, 37, 512, 3001), in = GENERATE(32, 96, 1024);
  // ranks of adapters; of the last ones there are kernels for none
  using Ranks = std::vector<int64_t>;
  const auto ranks =
      GENERATE(Ranks{16, 16, 16}, Ranks{8}, Ranks{16}, Ranks{32}, Ranks{64}, Ranks{40}, Ranks{24, 8}, Ranks{64, 128},
               Ranks{120, 72}, Ranks{8, 8, 8, 8, 8}, Ranks{16, 16, 16, 16}, Ranks{32, 32, 32}, Ranks{32, 4});
  INFO(c10::toString(type) << ", " << tokens << " tokens, " << in << " features, first rank " << ranks[0]);
  const at::Tensor token = torch::arange(tokens, at::kLong);
  const DropoutKeys keys{42, token.floor_divide(100) + sample_key(3, 0), token % 100};
  const DropoutKeys on_gpu{42, keys.sample_keys.to(kGpu), keys.positions.to(kGpu)};
  std::vector<DroppedRows> adapters;
  int64_t all = 0;
  for (size_t i = 0; i < ranks.size(); ++i) {
    adapters.push_back({all, ranks[i], i == 1 ? 0.0 : 0.1 * static_cast<double>(i + 1), 77 + i});
    all += ranks[i];
  }
  const auto make = [&](int64_t rows, int64_t columns, double size) {
    return (torch::randn({rows, columns}) * size).to(type);
  };
  const at::Tensor x = make(tokens, in, 1), a = make(all, in, 0.1), d_low = make(tokens, all, 1),
                   dx = make(tokens, in, 1);
  // [low, dx, da] by products of what dropout writes
  const auto plain = [&](const DropoutKeys& own, at::Device device, at::ScalarType wide) {
    const auto to = [&](const at::Tensor& tensor) { return tensor.to(device, wide); };
    std::vector<at::Tensor> low, da;
    at::Tensor sum = to(dx).clone();
    for (const DroppedRows& adapter : adapters) {
      const auto drop = [&](const at::Tensor& tensor) {
        return counter_dropout(tensor.contiguous(), adapter.p, adapter.module, own);
      };
      const at::Tensor rows = to(a).narrow(0, adapter.first_rank, adapter.rank),
                       gradient = to(d_low).narrow(1, adapter.first_rank, adapter.rank);
      low.push_back(drop(to(x)).mm(rows.t()));
      sum += drop(gradient.mm(rows));
      da.push_back(multiply_to_float(gradient.t(), drop(to(x))));
    }
    std::vector<at::Tensor> results = {at::cat(low, 1), sum, at::cat(da)};
    for (at::Tensor& result : results) result = result.to(at::kCPU, at::kDouble);
    return results;
  };
  const auto exact = plain(keys, at::kCPU, at::kDouble), unfused = plain(on_gpu, kGpu, type);
  const auto fused = [&] {
    at::Tensor sum = dx.to(kGpu).clone();
    const at::Tensor rows = multiply_dropped_backward(sum, d_low.to(kGpu), x.to(kGpu), a.to(kGpu), adapters, on_gpu);
    return std::vector<at::Tensor>{multiply_dropped(x.to(kGpu), a.to(kGpu), adapters, on_gpu), sum, rows};
  };
  const auto actual = fused(), again = fused();
  for (size_t i = 0; i < exact.size(); ++i) {
    INFO("result " << i);
    CHECK(torch::equal(actual[i], again[i]));
    const double one_rounding =
        i == 2 ? 1e-5 * largest(exact[i]) : largest(exact[i]) / (type == at::kHalf ? 2048 : 256);
    CHECK(largest(actual[i].to(at::kCPU, at::kDouble) - exact[i]) <= largest(unfused[i] - exact[i]) + one_rounding);
  }
  CHECK(actual[2].scalar_type() == at::kFloat);
  // one of the two gradients alone
  at::Tensor sum = dx.to(kGpu).clone();
  CHECK_FALSE(multiply_dropped_backward(sum, d_low.to(kGpu), {}, a.to(kGpu), adapters, on_gpu).defined());
  CHECK(torch::equal(sum, actual[1]));
  CHECK(
      torch::equal(multiply_dropped_backward({}, d_low.to(kGpu), x.to(kGpu), a.to(kGpu), adapters, on_gpu), actual[2]));
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
  check("attention", on_gpu, on_cpu,
        {torch::randn({256, heads, head_dim}), torch::randn({256, kv_heads, head_dim}),
         torch::randn({256, kv_heads, head_dim})},
        2e-5);
}

TEST_CASE("CUDA: tokens are drawn as on the CPU, with all filters and at odd sizes", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(8);
  const int64_t vocab_size = GENERATE(7, 1001, 49152, 151936), rows = 200;
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  const auto options =
      GENERATE(SamplingOptions{}, SamplingOptions{.temperature = 0.7}, SamplingOptions{.temperature = 1.3, .top_k = 5},
               SamplingOptions{.temperature = 1.0, .top_p = 0.9}, SamplingOptions{.temperature = 1.0, .min_p = 0.1},
               SamplingOptions{.temperature = 0.8, .top_k = 50, .top_p = 0.8, .min_p = 0.02},
               SamplingOptions{.repetition_penalty = 1.5},
               SamplingOptions{.temperature = 1.0, .top_p = 0.95, .repetition_penalty = 1.2});
  INFO("vocabulary " << vocab_size << ", temperature " << options.temperature << ", top_k " << options.top_k
                     << ", top_p " << options.top_p << ", penalty " << options.repetition_penalty);
  const at::Tensor logits = (torch::randn({rows, vocab_size}) * 4).to(type);
  const at::Tensor streams = torch::randint(1000, {rows}, at::kLong), draws = torch::randint(1000, {rows}, at::kLong);
  at::Tensor seen, seen_on_gpu;
  if (options.repetition_penalty != 1.0) {
    seen = torch::randint(std::numeric_limits<int32_t>::max(), {rows, (vocab_size + 31) / 32}, at::kInt);
    seen_on_gpu = seen.to(kGpu);
  }
  const at::Tensor log_probs = torch::empty({rows}, at::TensorOptions(kGpu).dtype(at::kFloat));
  const at::Tensor expected = sample_tokens(logits, options, {42, 7, streams, draws}, seen);
  const at::Tensor actual =
      sample_tokens(logits.to(kGpu), options, {42, 7, streams.to(kGpu), draws.to(kGpu)}, seen_on_gpu, log_probs).cpu();
  // exp() differs in its last bit: a draw within 1e-7 of a border may fall to the other side
  CHECK(actual.ne(expected).sum().item<int64_t>() <= (options.temperature > 0 ? 1 : 0));
  if (seen.defined() && actual.equal(expected)) CHECK(seen_on_gpu.cpu().equal(seen));
  const at::Tensor of_all =
      torch::log_softmax(logits.to(at::kDouble) / (options.temperature > 0 ? options.temperature : 1.0), 1);
  CHECK((log_probs.cpu() - of_all.gather(1, actual.unsqueeze(1)).squeeze(1)).abs().max().item<double>() < 2e-5);
}
