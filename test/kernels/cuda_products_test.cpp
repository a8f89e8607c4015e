// Products on a GPU: of few rows, in parts, of packed adapters, of dropped inputs.
#include <torch/types.h>

#include <numeric>

#include "base/counter_random.h"
#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "kernels/counter_dropout.h"
#include "kernels/dropped_products.h"
#include "kernels/few_rows_product.h"
#include "kernels/float_products.h"
#include "kernels/packed_adapters.h"
#include "kernels/rms_norm.h"
#include "support/on_gpu.h"

using namespace dsft;
using namespace dsft::kernels;
using test::kGpu;
using test::largest;

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
