// The CUDA kernels against LibTorch's own operations in float64 on the CPU.
#include <torch/types.h>

#include "base/counter_random.h"
#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "kernels/against_float64.h"
#include "kernels/counter_dropout.h"
#include "kernels/embedding_gradient.h"
#include "kernels/rms_norm.h"
#include "kernels/rotary.h"
#include "kernels/sample_tokens.h"
#include "kernels/swiglu.h"
#include "kernels/token_log_probs_rows.h"

using namespace dsft;
using namespace dsft::kernels;
using test::check_against_float64;
using test::kGpu;
using test::largest;

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
    check_against_float64("rms_norm", norm, plain, {torch::randn({300, size}) * 3, torch::randn({size})}, 2e-5);
    const auto of_sum = [](auto& in) {
      const NormedSum result = add_rms_norm(in[0], in[1], in[2], 1e-6);
      return result.sum + 2 * result.normed;
    };
    const auto plain_of_sum = [&](auto& in) {
      std::vector<at::Tensor> summed = {in[0] + in[1], in[2]};
      return summed[0] + 2 * plain(summed);
    };
    check_against_float64("add_rms_norm", of_sum, plain_of_sum,
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
    check_against_float64("rotate", turn, plain, {torch::randn({37, 3, 2 * half})}, 1e-5);
  }
  check_against_float64(
      "swiglu", [](auto& in) { return swiglu(in[0]); },
      [](auto& in) { return at::silu(in[0].narrow(1, 0, 53)) * in[0].narrow(1, 53, 53); },
      {torch::randn({37, 106}) * 8}, 1e-5);
  check_against_float64(
      "swiglu of whole vectors", [](auto& in) { return swiglu(in[0]); },
      [](auto& in) { return at::silu(in[0].narrow(1, 0, 64)) * in[0].narrow(1, 64, 64); },
      {torch::randn({37, 128}) * 8}, 1e-5);
  check_against_float64(
      "swiglu in place", [](auto& in) { return swiglu(in[0] + in[0]); },
      [](auto& in) { return at::silu(in[0].narrow(1, 0, 64) * 2) * (in[0].narrow(1, 64, 64) * 2); },
      {torch::randn({37, 128}) * 4}, 1e-5);
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
  // of gradients up to 5: the exponent's own rounding, at logits of 40, is 5e-6 of them
  CHECK(largest(work.cpu() - reference.grad()) < 2e-5);
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
