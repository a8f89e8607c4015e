#include "optim/adamw.h"

#include <torch/types.h>

#include <ATen/Parallel.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "optim/gradient_norm.h"
#include "optim/schedule.h"

using namespace dsft;

namespace {

at::Tensor to_tensor(const nlohmann::json& values) {
  return at::tensor(values.get<std::vector<float>>(), at::kFloat);
}

optim::AdamWTensors tensors_of(const at::Tensor& weight) {
  return {.weight = weight,
          .gradient = at::zeros_like(weight),
          .exp_avg = at::zeros_like(weight),
          .exp_avg_sq = at::zeros_like(weight)};
}

optim::AdamWUpdate update_of(double rate, double factor, int64_t num_applied, bool is_applied = true) {
  return {.learning_rate = at::scalar_tensor(rate, at::kDouble),
          .gradient_factor = at::scalar_tensor(factor, at::kDouble),
          .num_applied_updates = at::scalar_tensor(num_applied, at::kLong),
          .is_applied = at::scalar_tensor(is_applied, at::kBool)};
}

}  // namespace

TEST_CASE("AdamW whose beta1 a schedule moves follows torch.optim.AdamW under DeepSpeed's OneCycle", "[optim]") {
  const auto golden =
      nlohmann::json::parse(std::ifstream(DSFT_SOURCE_DIR "/test/fixtures/optim/deepspeed_schedules.json"))["adamw"];
  const auto& kwargs = golden["kwargs"];
  optim::Schedule schedule{.type = optim::SchedulerType::kOneCycle};
  schedule.kwargs.cycle_min_lr = kwargs["cycle_min_lr"];
  schedule.kwargs.cycle_max_lr = kwargs["cycle_max_lr"];
  schedule.kwargs.cycle_first_step_size = kwargs["cycle_first_step_size"];
  schedule.kwargs.decay_step_size = kwargs["decay_step_size"];
  schedule.kwargs.decay_lr_rate = kwargs["decay_lr_rate"];
  schedule.kwargs.decay_mom_rate = kwargs["decay_mom_rate"];
  const auto& given = golden["options"];
  const optim::AdamWOptions options{given["betas"][0], optim::kMovedBeta2, given["eps"], given["weight_decay"]};
  for (const auto update_function : {optim::adamw_update, optim::adamw_update_by_operations}) {
    optim::AdamWTensors tensors = tensors_of(to_tensor(golden["start"]));
    for (size_t step = 0; step < golden["gradients"].size(); ++step) {
      tensors.gradient = to_tensor(golden["gradients"][step]);
      const auto number = static_cast<int64_t>(step);
      optim::AdamWUpdate update = update_of(optim::learning_rate(schedule, number), 1, number);
      update.beta1 = at::scalar_tensor(optim::beta1(schedule, number), at::kDouble);
      update_function(tensors, options, update);
      INFO("update " << step);
      REQUIRE((tensors.weight - to_tensor(golden["weights"][step])).abs().max().item<float>() < 1e-6);
    }
  }
}

TEST_CASE("AdamW with clipping follows torch.optim.AdamW and clip_grad_norm_ over 20 steps", "[optim]") {
  const auto golden = nlohmann::json::parse(std::ifstream(DSFT_SOURCE_DIR "/test/fixtures/optim/adamw.json"));
  const auto& given = golden["options"];
  const optim::AdamWOptions options{given["betas"][0], given["betas"][1], given["eps"], given["weight_decay"]};
  for (const auto update_function : {optim::adamw_update, optim::adamw_update_by_operations}) {
    optim::AdamWTensors tensors = tensors_of(to_tensor(golden["start"]));
    for (int64_t step = 0; step < 20; ++step) {
      tensors.gradient = to_tensor(golden["gradients"][step]);
      const at::Tensor norm = optim::sum_of_squares(tensors.gradient).sqrt();
      REQUIRE(norm.item<double>() == Catch::Approx(golden["norms"][step].get<double>()).epsilon(1e-6));
      optim::AdamWUpdate update = update_of(given["lr"], 1, step);
      update.gradient_factor = optim::clip_factor(norm, golden["max_norm"]);
      update_function(tensors, options, update);
    }
    // 4 units in the last place of weights up to 2.3; torch's own fp32 result is 6.3e-7 away from fp64
    REQUIRE((tensors.weight - to_tensor(golden["weight"])).abs().max().item<float>() < 1e-6);
    const at::Tensor exact = at::tensor(golden["weight_fp64"].get<std::vector<double>>(), at::kDouble);
    const auto error_of = [&](const at::Tensor& weight) {
      return (weight.to(at::kDouble) - exact).abs().max().item<double>();
    };
    INFO("error against fp64: " << error_of(tensors.weight) << ", torch's " << error_of(to_tensor(golden["weight"])));
    REQUIRE(error_of(tensors.weight) <= error_of(to_tensor(golden["weight"])));
    REQUIRE((tensors.exp_avg - to_tensor(golden["exp_avg"])).abs().max().item<float>() < 1e-7);
    REQUIRE((tensors.exp_avg_sq - to_tensor(golden["exp_avg_sq"])).abs().max().item<float>() < 1e-7);
  }
}

TEST_CASE("A skipped update changes nothing, whatever the gradient holds", "[optim]") {
  for (const auto update_function : {optim::adamw_update, optim::adamw_update_by_operations}) {
    optim::AdamWTensors tensors = tensors_of(at::ones({5}));
    tensors.gradient.fill_(std::numeric_limits<float>::quiet_NaN());
    update_function(tensors, {.weight_decay = 0.5}, update_of(0.1, 1, 3, false));
    REQUIRE(at::equal(tensors.weight, at::ones({5})));
    REQUIRE(at::equal(tensors.exp_avg, at::zeros({5})));
    REQUIRE(at::equal(tensors.exp_avg_sq, at::zeros({5})));
  }
}

TEST_CASE("The 16-bit copy is the rounded new weight, and threads do not change a bit", "[optim]") {
  for (at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const int64_t numel = 200'003;
    std::vector<at::Tensor> results;
    for (int num_threads : {1, 2}) {
      at::set_num_threads(num_threads);
      optim::AdamWTensors tensors = tensors_of(at::arange(numel, at::kFloat) * 1e-4 - 7);
      tensors.gradient = at::cos(at::arange(numel, at::kFloat));
      tensors.copy = at::zeros({numel}, type);
      for (int64_t step = 0; step < 2; ++step) optim::adamw_update(tensors, {}, update_of(0.01, 0.5, step));
      REQUIRE(at::equal(tensors.copy, tensors.weight.to(type)));
      results.push_back(tensors.weight);
    }
    REQUIRE(at::equal(results[0], results[1]));
  }
}

TEST_CASE("A 16-bit gradient gives what the same numbers in fp32 give, in one pass with the copy", "[optim]") {
  const auto type = GENERATE(at::kBFloat16, at::kHalf);
  const int64_t numel = GENERATE(1, 4095, 100'003);
  const at::Tensor narrow = (at::cos(at::arange(numel, at::kFloat)) * 3).to(type);
  std::vector<optim::AdamWTensors> results;
  for (const at::Tensor& gradient : {narrow, narrow.to(at::kFloat)}) {
    optim::AdamWTensors tensors = tensors_of(at::arange(numel, at::kFloat) * 1e-4 - 7);
    tensors.copy = at::zeros({numel}, type);
    tensors.gradient = gradient;
    for (int64_t step = 0; step < 3; ++step)
      optim::adamw_update(tensors, {.weight_decay = 0.1}, update_of(0.01, 0.25, step));
    results.push_back(tensors);
  }
  // a unit in the last place: of two products whose sum is one operation, the compiler chooses which one is rounded
  CHECK(at::allclose(results[0].weight, results[1].weight, 0, 1e-6));
  CHECK(at::allclose(results[0].exp_avg, results[1].exp_avg, 3e-7, 1e-7));
  CHECK(at::allclose(results[0].exp_avg_sq, results[1].exp_avg_sq, 3e-7, 0));
  CHECK(at::equal(results[0].copy, results[0].weight.to(type)));
}

TEST_CASE("Numbers on the host update as tensors do", "[optim]") {
  optim::AdamWTensors by_tensors = tensors_of(at::linspace(-2, 2, 1001)),
                      by_numbers = tensors_of(by_tensors.weight.clone());
  by_tensors.gradient = by_numbers.gradient = at::sin(at::arange(1001, at::kFloat));
  const optim::AdamWOptions options{.weight_decay = 0.1};
  optim::adamw_update(by_tensors, options, update_of(0.01, 0.7, 4));
  optim::adamw_update(by_numbers, options, optim::AdamWNumbers{0.01, 0.7, 4});
  CHECK(at::equal(by_tensors.weight, by_numbers.weight));
  CHECK(at::equal(by_tensors.exp_avg_sq, by_numbers.exp_avg_sq));
}

TEST_CASE("Copies are rounded to the nearest, ties to even, and what is too large is infinite", "[optim]") {
  // bf16 has 8 bits, fp16 11: a tie lies half a unit in the last place above 1
  const auto type = GENERATE(at::kBFloat16, at::kHalf);
  const float unit = type == at::kBFloat16 ? 0x1p-7f : 0x1p-10f, infinity = std::numeric_limits<float>::infinity();
  optim::AdamWTensors tensors = tensors_of(at::tensor(
      {1 + unit / 2, 1 + 1.5f * unit, 1 + 0.501f * unit, -1 - 1.499f * unit, 3.4e38f, -0.0f, std::nanf("")}));
  tensors.copy = at::zeros({tensors.weight.numel()}, type);
  optim::adamw_update(tensors, {}, update_of(0, 1, 0));  // rate 0: weights stay
  const at::Tensor copy = tensors.copy.to(at::kFloat);
  CHECK(copy[0].item<float>() == 1);
  CHECK(copy[1].item<float>() == 1 + 2 * unit);
  CHECK(copy[2].item<float>() == 1 + unit);
  CHECK(copy[3].item<float>() == -1 - unit);
  CHECK(copy[4].item<float>() == infinity);
  CHECK(std::signbit(copy[5].item<float>()));
  CHECK(std::isnan(copy[6].item<float>()));
}

TEST_CASE("A copy may begin anywhere and be shorter than a vector", "[optim]") {
  const int64_t first = GENERATE(0, 1, 7, 8), numel = GENERATE(1, 15, 2047, 5000);
  optim::AdamWTensors tensors = tensors_of(at::linspace(-1, 1, numel));
  const at::Tensor room = at::full({numel + 16}, 9, at::kBFloat16);
  tensors.copy = room.narrow(0, first, numel);
  optim::adamw_update(tensors, {}, update_of(0.01, 1, 0));
  CHECK(at::equal(tensors.copy, tensors.weight.to(at::kBFloat16)));
  CHECK(at::equal(room.narrow(0, 0, first), at::full({first}, 9, at::kBFloat16)));
  CHECK(at::equal(room.narrow(0, first + numel, 16 - first), at::full({16 - first}, 9, at::kBFloat16)));
}

TEST_CASE("Gradients on the host are added and squared in 16 bits as in fp32", "[optim]") {
  const auto type = GENERATE(at::kFloat, at::kBFloat16, at::kHalf);
  const at::Tensor values = (at::sin(at::arange(200'003, at::kFloat)) * 5).to(type);
  CHECK(optim::sum_of_squares_on_host(values) == optim::sum_of_squares(values.to(at::kFloat)).item<double>());
  at::Tensor sum = at::cos(at::arange(200'003, at::kFloat));
  const at::Tensor expected = sum + values.to(at::kFloat);
  optim::add_on_host(sum, values);
  CHECK(at::equal(sum, expected));
}

TEST_CASE("The sum of squares is exact to fp64 and does not depend on threads", "[optim]") {
  const at::Tensor values = at::sin(at::arange(300'007, at::kFloat) * 0.37f) * 1e3f;
  std::vector<double> sums;
  for (int num_threads : {1, 2}) {
    at::set_num_threads(num_threads);
    sums.push_back(optim::sum_of_squares(values).item<double>());
  }
  REQUIRE(sums[0] == sums[1]);
  REQUIRE(sums[0] == Catch::Approx(values.to(at::kDouble).square().sum().item<double>()).epsilon(1e-12));
  REQUIRE(optim::sum_of_squares(at::zeros({0})).item<double>() == 0);
  REQUIRE(optim::sum_of_squares(at::full({4}, 1e30f)).item<double>() == Catch::Approx(4e60));
}

TEST_CASE("Clipping shrinks long gradients only, and 0 switches it off", "[optim]") {
  const auto factor = [](double norm, double max_norm) {
    return optim::clip_factor(at::scalar_tensor(norm, at::kDouble), max_norm).item<double>();
  };
  REQUIRE(factor(4, 1) == 1 / (4 + 1e-6));
  REQUIRE(factor(0.5, 1) == 1);
  REQUIRE(factor(1e9, 0) == 1);
  REQUIRE(factor(1e9, -1) == 1);
}

TEST_CASE("On a GPU one pass gives the CPU's weights, states and rounded copy, and a skipped update nothing",
          "[optim][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(3);
  const auto type = GENERATE(at::kBFloat16, at::kHalf);
  const int64_t numel = GENERATE(3, 1000003);
  const bool moves_beta1 = GENERATE(false, true);
  const optim::AdamWOptions options{.weight_decay = 0.1};
  optim::AdamWTensors on_cpu = tensors_of(torch::randn({numel}));
  on_cpu.copy = torch::zeros({numel}, type);
  optim::AdamWTensors on_gpu = on_cpu;
  for (at::Tensor* tensor : {&on_gpu.weight, &on_gpu.gradient, &on_gpu.exp_avg, &on_gpu.exp_avg_sq, &on_gpu.copy})
    *tensor = tensor->to(at::kCUDA);
  for (int64_t step = 0; step < 6; ++step) {
    const bool is_applied = step != 3;
    on_cpu.gradient.copy_(torch::randn({numel}));
    on_gpu.gradient.copy_(on_cpu.gradient);
    optim::AdamWUpdate update = update_of(1e-2, 0.7, step, is_applied);
    if (moves_beta1) update.beta1 = at::scalar_tensor(0.8 + 0.02 * static_cast<double>(step), at::kDouble);
    const at::Tensor before = on_gpu.weight.clone();
    optim::adamw_update(on_cpu, options, update);
    for (at::Tensor* scalar :
         {&update.learning_rate, &update.gradient_factor, &update.num_applied_updates, &update.is_applied})
      *scalar = scalar->to(at::kCUDA);
    if (moves_beta1) update.beta1 = update.beta1.to(at::kCUDA);
    optim::adamw_update(on_gpu, options, update);
    CHECK(torch::equal(on_gpu.weight, before) == !is_applied);
  }
  const auto gap = [](const at::Tensor& a, const at::Tensor& b) { return (a.cpu() - b).abs().max().item<float>(); };
  CHECK(gap(on_gpu.weight, on_cpu.weight) < 2e-6);
  CHECK(gap(on_gpu.exp_avg, on_cpu.exp_avg) < 1e-6);
  CHECK(gap(on_gpu.exp_avg_sq, on_cpu.exp_avg_sq) < 1e-6);
  CHECK(torch::equal(on_gpu.copy, on_gpu.weight.to(type)));
}

TEST_CASE("On a GPU the sum of squares is that of the CPU, in fp64 and to the bit each time", "[optim][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(4);
  const int64_t numel = GENERATE(0, 1, 7, 4096, 3000017);
  const at::Tensor values = torch::randn({numel}) * 1e18;  // whose squares fp32 does not hold
  const at::Tensor on_gpu = values.to(at::kCUDA), sum = optim::sum_of_squares(on_gpu);
  const double expected = values.to(at::kDouble).square().sum().item<double>();
  CHECK(sum.scalar_type() == at::kDouble);
  CHECK(std::abs(sum.item<double>() - expected) <= 1e-12 * expected);
  CHECK(torch::equal(sum, optim::sum_of_squares(on_gpu)));
}
