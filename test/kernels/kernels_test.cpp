#include <torch/types.h>

#include "base/counter_random.h"
#include "catch_amalgamated.hpp"
#include "kernels/counter_dropout.h"
#include "kernels/dropped_products.h"
#include "kernels/rms_norm.h"
#include "kernels/rotary.h"
#include "kernels/swiglu.h"
#include "kernels/token_log_probs_rows.h"

using namespace dsft;
using namespace dsft::kernels;

namespace {

double max_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

// Gradients of sum(f(inputs) * direction) for each input.
template <typename Function>
std::vector<at::Tensor> gradients_of(Function f, std::vector<at::Tensor> inputs, const at::Tensor& direction) {
  for (at::Tensor& input : inputs) input = input.detach().clone().requires_grad_(true);
  (f(inputs) * direction.to(inputs[0].scalar_type())).sum().backward();
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& input : inputs) gradients.push_back(input.grad());
  return gradients;
}

}  // namespace

// The double path of each operation is plain LibTorch; the float path is the kernel.
TEST_CASE("CPU kernels agree with LibTorch's own operations in float64, values and gradients", "[kernels]") {
  torch::manual_seed(1);
  struct Case {
    const char* name;
    std::function<at::Tensor(std::vector<at::Tensor>&)> apply;
    std::vector<at::Tensor> inputs;
  };
  const at::Tensor angle = torch::randn({37, 8});
  const at::Tensor cos = angle.cos(), sin = angle.sin();
  std::vector<Case> cases;
  cases.push_back({"rms_norm",
                   [](auto& in) { return rms_norm(in[0], in[1], 1e-5); },
                   {torch::randn({37, 24}) * 3, torch::randn({24})}});
  cases.push_back({"rotate", [&](auto& in) { return rotate(in[0], cos, sin); }, {torch::randn({37, 3, 16})}});
  cases.push_back({"swiglu", [](auto& in) { return swiglu(in[0]); }, {torch::randn({37, 100}) * 3}});
  // of no leaf: its backward pass works in place
  cases.push_back({"swiglu in place", [](auto& in) { return swiglu(in[0] + in[0]); }, {torch::randn({37, 100}) * 1.5}});
  for (Case& c : cases) {
    INFO(c.name);
    std::vector<at::Tensor> wide;
    for (const at::Tensor& input : c.inputs) wide.push_back(input.to(at::kDouble));
    const at::Tensor expected = c.apply(wide), actual = c.apply(c.inputs);
    REQUIRE(actual.scalar_type() == at::kFloat);
    CHECK(max_difference(actual, expected) < 5e-6);
    const at::Tensor direction = torch::randn(expected.sizes());
    const auto expected_gradients = gradients_of(c.apply, wide, direction),
               actual_gradients = gradients_of(c.apply, c.inputs, direction);
    for (size_t i = 0; i < wide.size(); ++i) CHECK(max_difference(actual_gradients[i], expected_gradients[i]) < 3e-5);
    // bf16: no further from float64 than LibTorch's unfused operations in bf16 are, but for one rounding.
    std::vector<at::Tensor> narrow, rounded;
    for (const at::Tensor& input : c.inputs) {
      narrow.push_back(input.to(at::kBFloat16));
      rounded.push_back(narrow.back().to(at::kDouble));
    }
    const at::Tensor exact = c.apply(rounded);
    CHECK(max_difference(c.apply(narrow), exact) < 0.02 * exact.abs().max().item<double>());
  }
}

TEST_CASE("What else has kept gate and up is refused them after swiglu's backward pass", "[kernels]") {
  const at::Tensor x = torch::randn({3, 8}).requires_grad_(true), gate_up = x + x;
  const at::Tensor squares = gate_up.square();  // keeps gate_up; made first, so its backward pass comes last
  const at::Tensor y = swiglu(gate_up);
  CHECK_THROWS_AS((y.sum() + squares.sum()).backward(), c10::Error);
}

TEST_CASE("Token log-probabilities and their gradient agree with log_softmax in float64", "[kernels]") {
  torch::manual_seed(2);
  const at::Tensor logits = torch::randn({11, 301}) * 6, targets = torch::randint(301, {11});
  at::Tensor reference = logits.to(at::kDouble).requires_grad_(true);
  const at::Tensor expected = torch::log_softmax(reference, -1).gather(1, targets.unsqueeze(1)).squeeze(1);
  expected.sum().backward();
  at::Tensor work = logits.clone(), scaled = logits.clone();
  const TokenStatistics statistics = token_log_probs_rows(work, targets, true);
  CHECK(max_difference(statistics.log_probs, expected) < 1e-5);
  CHECK(max_difference(work, reference.grad()) < 1e-6);
  const at::Tensor scales = torch::rand({11});
  token_log_probs_rows(scaled, targets, true, scales);
  CHECK(max_difference(scaled, reference.grad() * scales.unsqueeze(1)) < 1e-6);
  CHECK(torch::equal(statistics.is_argmax, logits.argmax(-1).eq(targets)));
  at::Tensor easy = at::zeros({2, 5});
  easy[0][3] = 200.0;
  const TokenStatistics extreme = token_log_probs_rows(easy, at::tensor({int64_t{3}, int64_t{1}}), false);
  CHECK(extreme.log_probs[0].item<float>() == 0.0f);
  CHECK(extreme.is_argmax[0].item<bool>());
  CHECK_FALSE(extreme.is_argmax[1].item<bool>());  // all equal: the first wins
}

TEST_CASE("With a temperature, log-probabilities, entropies and their gradients agree with float64", "[kernels]") {
  torch::manual_seed(3);
  const double temperature = GENERATE(0.7, 1.0, 2.5);
  const at::Tensor logits = torch::randn({11, 301}) * 6, targets = torch::randint(301, {11});
  at::Tensor reference = logits.to(at::kDouble).requires_grad_(true);
  const at::Tensor wide = torch::log_softmax(reference / temperature, -1);
  const at::Tensor expected = wide.gather(1, targets.unsqueeze(1)).squeeze(1), entropies = -(wide.exp() * wide).sum(-1);
  const at::Tensor scales = torch::randn({11}), entropy_scales = torch::randn({11});
  (expected * scales + entropies * entropy_scales).sum().backward();
  at::Tensor work = logits.clone(), in_double = logits.to(at::kDouble);
  for (at::Tensor* rows : {&work, &in_double}) {
    const TokenStatistics statistics =
        token_log_probs_rows(*rows, targets, true, scales,
                             {.temperature = temperature, .wants_entropies = true, .entropy_scales = entropy_scales});
    CHECK(max_difference(statistics.log_probs, expected) < 1e-5);
    CHECK(max_difference(statistics.entropies, entropies) < 1e-5);
    CHECK(max_difference(*rows, reference.grad()) < 2e-6);
    CHECK(torch::equal(statistics.is_argmax, logits.argmax(-1).eq(targets)));
  }
  at::Tensor certain = torch::full({2, 5}, -std::numeric_limits<float>::infinity());
  certain[0][3] = 4.0;
  certain[1].fill_(2.0);
  const TokenStatistics extreme = token_log_probs_rows(certain, at::tensor({int64_t{3}, int64_t{1}}), false, {},
                                                       {.temperature = temperature, .wants_entropies = true});
  CHECK(std::abs(extreme.entropies[0].item<float>()) < 1e-6);
  CHECK(std::abs(extreme.entropies[1].item<float>() - std::log(5.0)) < 1e-6);
}

TEST_CASE("Dropout is a function of seed, epoch, sample, position, module and feature alone", "[kernels]") {
  const int64_t tokens = 64, size = 200;
  const at::Tensor token = torch::arange(tokens, at::kLong);
  DropoutKeys keys{42, token.floor_divide(16) + sample_key(3, 0), token % 16};
  const at::Tensor x = torch::randn({tokens, size});
  const at::Tensor y = counter_dropout(x, 0.25, hash_name("a"), keys);
  // The kernel equals the tensor-operation reference.
  CHECK(torch::equal(y, x * counter_dropout_factors(size, 0.25, hash_name("a"), keys, at::kCPU)));
  // A token alone, in another batch, is dropped the same way.
  DropoutKeys one{42, keys.sample_keys.narrow(0, 37, 1).contiguous(), keys.positions.narrow(0, 37, 1).contiguous()};
  CHECK(torch::equal(counter_dropout(x.narrow(0, 37, 1), 0.25, hash_name("a"), one), y.narrow(0, 37, 1)));
  CHECK_FALSE(torch::equal(counter_dropout(x, 0.25, hash_name("b"), keys), y));
  keys.sample_keys = keys.sample_keys + sample_key(1, 0);
  CHECK_FALSE(torch::equal(counter_dropout(x, 0.25, hash_name("a"), keys), y));
  CHECK(std::abs(y.eq(0).to(at::kDouble).mean().item<double>() - 0.25) < 0.01);
  CHECK(std::abs(counter_dropout(torch::ones_like(x), 0.25, hash_name("a"), keys).mean().item<double>() - 1.0) < 0.02);
  // The gradient goes through the same mask.
  at::Tensor leaf = x.clone().requires_grad_(true);
  counter_dropout(leaf, 0.25, hash_name("b"), keys).sum().backward();
  CHECK(torch::equal(leaf.grad(), counter_dropout_factors(size, 0.25, hash_name("b"), keys, at::kCPU)));
}

TEST_CASE("Dropout by operations rounds the product, not the factor", "[kernels]") {
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16, at::kHalf);
  const double p = GENERATE(0.05, 0.3);
  const int64_t tokens = 32, size = 72;
  const DropoutKeys keys{42, torch::arange(tokens, at::kLong), torch::zeros({tokens}, at::kLong)};
  const at::Tensor x = torch::randn({tokens, size}).to(dtype);
  at::Tensor by_kernel = x.clone().requires_grad_(true), by_operations = x.clone().requires_grad_(true);
  const at::Tensor expected = counter_dropout(by_kernel, p, 7, keys);
  const at::Tensor actual = counter_dropout_by_operations(by_operations, p, 7, keys);
  CHECK(actual.scalar_type() == dtype);
  CHECK(torch::equal(actual, expected));
  const at::Tensor gradient = torch::randn({tokens, size}).to(dtype);
  expected.backward(gradient);
  actual.backward(gradient);
  CHECK(torch::equal(by_operations.grad(), by_kernel.grad()));
}

TEST_CASE("Products of dropped inputs are those of x times its factors", "[kernels]") {
  torch::manual_seed(21);
  const auto type = GENERATE(at::kFloat, at::kDouble);
  const int64_t tokens = 37, in = 72;
  const DropoutKeys keys{42, torch::arange(tokens, at::kLong).floor_divide(5), torch::arange(tokens, at::kLong) % 5};
  // one of them is not dropped
  const std::vector<DroppedRows> adapters = {
      {0, 4, 0.3, hash_name("q")}, {4, 8, 0.0, hash_name("k")}, {12, 3, 0.05, hash_name("v")}};
  const at::Tensor x = torch::randn({tokens, in}, type), a = torch::randn({15, in}, type),
                   d_low = torch::randn({tokens, 15}, type);
  at::Tensor low = torch::empty({tokens, 15}, at::kDouble), dx = torch::randn({tokens, in}, type),
             expected_dx = dx.to(at::kDouble), da = torch::empty({15, in}, at::kDouble);
  for (const DroppedRows& adapter : adapters) {
    const at::Tensor factors = counter_dropout_factors(in, adapter.p, adapter.module, keys, at::kCPU).to(at::kDouble);
    const at::Tensor rows = a.narrow(0, adapter.first_rank, adapter.rank).to(at::kDouble),
                     gradient = d_low.narrow(1, adapter.first_rank, adapter.rank).to(at::kDouble);
    low.narrow(1, adapter.first_rank, adapter.rank).copy_((x * factors).mm(rows.t()));
    expected_dx += gradient.mm(rows) * factors;
    da.narrow(0, adapter.first_rank, adapter.rank).copy_(gradient.t().mm(x * factors));
  }
  CHECK(max_difference(multiply_dropped(x, a, adapters, keys), low) < 2e-5);
  CHECK(max_difference(multiply_dropped_backward(dx, d_low, x, a, adapters, keys), da) < 2e-5);
  CHECK(max_difference(dx, expected_dx) < 2e-5);
}

TEST_CASE("Philox gives the known answers of its authors", "[kernels]") {
  // Random123's kat_vectors, philox4x32-10.
  CHECK(philox4x32({0, 0}, {0, 0, 0, 0}) == std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox4x32({0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}) ==
        std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
}
