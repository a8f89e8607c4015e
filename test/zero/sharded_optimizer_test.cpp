#include "zero/sharded_optimizer.h"

#include <torch/types.h>

#include <limits>
#include <mutex>
#include <stdexcept>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "comm/single_process_communicator.h"
#include "comm/thread_ranks.h"
#include "support/require_error.h"

using namespace dsft;
using comm::Communicator;
using zero::OptimizerOptions;
using zero::ShardedOptimizer;

namespace {

const at::Tensor kConstantRate = at::full({1}, 0.05, at::kDouble);

/// A two-layer network with a loss summed over samples.
struct Network {
  at::Tensor first, bias, second;

  explicit Network(at::ScalarType type = at::kFloat) {
    const auto leaf = [type](const at::Tensor& values) { return values.to(type).clone().set_requires_grad(true); };
    first = leaf(at::sin(at::arange(24, at::kFloat)).view({4, 6}));
    bias = leaf(at::full({4}, 0.1));
    second = leaf(at::cos(at::arange(12, at::kFloat)).view({3, 4}));
  }

  std::vector<zero::TrainableParameter> parameters() const {
    return {{"first.weight", first, true}, {"first.bias", bias, false}, {"second.weight", second, true}};
  }

  at::Tensor loss(int64_t sample) const {
    const at::Tensor x = at::cos(at::arange(6, at::kFloat) * (sample + 1)).to(first.scalar_type());
    const at::Tensor hidden = at::tanh(at::matmul(first, x) + bias);
    return (at::matmul(second, hidden).to(at::kFloat) - 1).square().sum();
  }

  at::Tensor all() const {
    return at::cat({first.detach().flatten(), bias.detach().flatten(), second.detach().flatten()}).to(at::kFloat);
  }
};

const OptimizerOptions kOptions{.adamw = {.weight_decay = 0.1}, .max_grad_norm = 0.5};
constexpr int64_t kSamplesPerUpdate = 8;

/// Trains on the same samples whatever the number of ranks and gives the parameters and the norms.
std::pair<at::Tensor, std::vector<double>> train(Communicator& communicator, int num_updates,
                                                 const OptimizerOptions& options = kOptions) {
  Network network;
  ShardedOptimizer optimizer(network.parameters(), options, communicator);
  const int64_t per_rank = kSamplesPerUpdate / communicator.size();
  std::vector<double> norms;
  for (int64_t update = 0; update < num_updates; ++update) {
    for (int64_t i = 0; i < per_rank; ++i) {
      const int64_t sample = update * kSamplesPerUpdate + communicator.rank() * per_rank + i;
      optimizer.backward(network.loss(sample) / static_cast<double>(kSamplesPerUpdate), i + 1 == per_rank);
    }
    norms.push_back(optimizer.clip_and_step(kConstantRate).grad_norm.item<double>());
  }
  return {network.all(), norms};
}

/// Parameters of every rank after training on threads.
std::vector<at::Tensor> train_on_threads(int num_ranks, int num_updates) {
  std::vector<at::Tensor> results(static_cast<size_t>(num_ranks));
  comm::run_thread_ranks(num_ranks, [&](Communicator& communicator) {
    results[communicator.rank()] = train(communicator, num_updates).first;
  });
  return results;
}

}  // namespace

TEST_CASE("The optimizer gives torch's AdamW of the same gradients, also where beta1 moves", "[zero]") {
  auto communicator = comm::make_single_process_communicator();
  OptimizerOptions options = kOptions;
  std::vector<double> beta1s(10, 0.9);
  if (GENERATE(false, true)) {
    // the last entry serves the updates beyond it
    beta1s = {0.8, 0.9, 0.87, 0.84, 0.8, 0.84, 0.95, 0.95, 0.95, 0.95};
    options.beta1s = at::tensor(beta1s, at::kDouble).narrow(0, 0, 7);
  }
  const auto [parameters, norms] = train(*communicator, 10, options);
  Network reference;
  std::vector<at::Tensor> list{reference.first, reference.bias, reference.second};
  std::vector<at::Tensor> exp_avg, exp_avg_sq, steps;
  for (const at::Tensor& tensor : list) {
    exp_avg.push_back(at::zeros_like(tensor));
    exp_avg_sq.push_back(at::zeros_like(tensor));
    steps.push_back(at::zeros({}, at::kFloat));
  }
  for (int64_t update = 0; update < 10; ++update) {
    at::Tensor loss = at::zeros({});
    for (int64_t i = 0; i < kSamplesPerUpdate; ++i) loss = loss + reference.loss(update * kSamplesPerUpdate + i);
    (loss / static_cast<double>(kSamplesPerUpdate)).backward();
    at::NoGradGuard no_grad;
    double squares = 0;
    for (const at::Tensor& tensor : list) squares += tensor.grad().to(at::kDouble).square().sum().item<double>();
    REQUIRE(norms[update] == Catch::Approx(std::sqrt(squares)).epsilon(1e-5));
    const double factor = std::min(1.0, 0.5 / (std::sqrt(squares) + 1e-6));
    for (size_t i = 0; i < list.size(); ++i) {
      std::vector<at::Tensor> p{list[i].detach()}, g{list[i].grad() * factor}, m{exp_avg[i]}, v{exp_avg_sq[i]},
          s{steps[i].add_(1)};
      at::_fused_adamw_(p, g, m, v, {}, s, 0.05, beta1s[update], 0.999, i == 1 ? 0.0 : 0.1, 1e-8, false, false);
      list[i].mutable_grad() = at::Tensor();
    }
  }
  REQUIRE((parameters - reference.all()).abs().max().item<float>() < 1e-6);
}

TEST_CASE("Thread ranks give one process's parameters, and all ranks the same bits", "[zero]") {
  auto communicator = comm::make_single_process_communicator();
  const at::Tensor expected = train(*communicator, 10).first;
  for (int num_ranks : {1, 2, 4}) {
    const std::vector<at::Tensor> results = train_on_threads(num_ranks, 10);
    for (const at::Tensor& result : results) {
      REQUIRE(at::equal(result, results.front()));
      REQUIRE((result - expected).abs().max().item<float>() < 1e-6);
    }
  }
}

TEST_CASE("Reductions that start inside the backward pass give the same parameters", "[zero]") {
  std::vector<at::Tensor> results(2);
  comm::run_thread_ranks(2, [&](Communicator& communicator) {
    Network network;
    ShardedOptimizer optimizer(network.parameters(), kOptions, communicator);
    // fires when first's gradient arrives: second's is final by then
    network.first.register_hook([&](at::Tensor) { optimizer.gradients_final({optimizer.index_of(network.second)}); });
    for (int64_t update = 0; update < 10; ++update) {
      for (int64_t i = 0; i < 4; ++i) {
        const int64_t sample = update * kSamplesPerUpdate + communicator.rank() * 4 + i;
        optimizer.backward(network.loss(sample) / static_cast<double>(kSamplesPerUpdate), i == 3);
      }
      optimizer.clip_and_step(kConstantRate);
    }
    results[communicator.rank()] = network.all();
  });
  const at::Tensor expected = train_on_threads(2, 10).front();
  REQUIRE(at::equal(results[0], expected));
  REQUIRE(at::equal(results[1], expected));
}

TEST_CASE("A non-finite gradient on one rank skips the update on all, and the schedule does not advance", "[zero]") {
  const int64_t stage = GENERATE(0, 1, 2);
  INFO("stage " << stage);
  std::mutex mutex;
  int num_right = 0;
  comm::run_thread_ranks(2, [&](Communicator& communicator) {
    Network network;
    ShardedOptimizer optimizer(network.parameters(), {.stage = stage}, communicator);
    const at::Tensor rates = at::tensor({0.01, 0.02, 0.03}, at::kDouble);
    std::vector<double> used;
    const auto update = [&](double weight) {
      optimizer.backward(network.loss(0) * weight, true);
      const zero::StepResult result = optimizer.clip_and_step(rates);
      used.push_back(result.learning_rate.item<double>());
      return result;
    };
    const bool is_first_applied = update(1).is_applied.item<bool>();
    const at::Tensor before = network.all();
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const bool is_second_applied = update(communicator.rank() == 1 ? nan : 1).is_applied.item<bool>();
    const bool is_unchanged = at::equal(network.all(), before);
    const bool is_third_applied = update(1).is_applied.item<bool>();
    std::lock_guard lock(mutex);
    num_right += is_first_applied && !is_second_applied && is_unchanged && is_third_applied &&
                 optimizer.num_applied_updates() == 2 && used == std::vector<double>{0.01, 0.02, 0.02} &&
                 !at::equal(network.all(), before);
  });
  REQUIRE(num_right == 2);
}

TEST_CASE("The fp16 scale is agreed by all ranks, and scaled training equals unscaled", "[zero]") {
  const int64_t stage = GENERATE(0, 1, 2);
  INFO("stage " << stage);
  std::vector<double> scales(2);
  std::vector<at::Tensor> results(2);
  comm::run_thread_ranks(2, [&](Communicator& communicator) {
    Network network;
    OptimizerOptions options = kOptions;
    options.stage = stage;
    options.loss_scaler = optim::LossScalerOptions{.initial_scale = 1024, .hysteresis = 1};
    ShardedOptimizer optimizer(network.parameters(), options, communicator);
    for (int64_t update = 0; update < 6; ++update) {
      const bool overflows = update == 2 && communicator.rank() == 0;
      const double weight = overflows ? std::numeric_limits<double>::infinity() : 1.0;
      optimizer.backward(network.loss(communicator.rank()) * weight, true);
      optimizer.clip_and_step(kConstantRate);
    }
    scales[communicator.rank()] = optimizer.loss_scaler()->scale();
    results[communicator.rank()] = network.all();
  });
  REQUIRE(scales == std::vector<double>{512, 512});
  REQUIRE(at::equal(results[0], results[1]));
  auto communicator = comm::make_single_process_communicator();
  Network plain;
  ShardedOptimizer optimizer(plain.parameters(), kOptions, *communicator);
  for (int64_t update = 0; update < 5; ++update) {
    optimizer.backward(plain.loss(0) + plain.loss(1), true);
    optimizer.clip_and_step(kConstantRate);
  }
  REQUIRE((results[0] - plain.all()).abs().max().item<float>() < 1e-6);
}

TEST_CASE("Gradients of bf16 parameters are added up in fp32 over 32 micro-batches", "[zero]") {
  auto communicator = comm::make_single_process_communicator();
  at::Tensor parameter = at::zeros({64}, at::kBFloat16).set_requires_grad(true);
  ShardedOptimizer optimizer({{"weight", parameter, true}}, {.max_grad_norm = 0}, *communicator);
  double exact = 0;
  at::Tensor bf16_sum = at::zeros({64}, at::kBFloat16);
  for (int64_t i = 0; i < 32; ++i) {
    const at::Tensor gradient = at::full({64}, 1.0 + 0.0078125 * static_cast<double>(i % 5), at::kBFloat16);
    exact += gradient[0].item<double>();
    bf16_sum += gradient;
    optimizer.backward((parameter * gradient).sum(), i == 31);
    REQUIRE(parameter.grad().scalar_type() == at::kFloat);
  }
  const double norm = optimizer.clip_and_step(kConstantRate).grad_norm.item<double>();
  REQUIRE(norm == Catch::Approx(exact * 8).epsilon(1e-6));
  REQUIRE(std::abs(bf16_sum[0].item<double>() - exact) / exact > 1e-3);  // what the fp32 sum avoids
}

TEST_CASE("bf16 weights keep an fp32 master, so that small updates are not lost", "[zero]") {
  auto communicator = comm::make_single_process_communicator();
  at::Tensor parameter = at::ones({16}, at::kBFloat16).set_requires_grad(true);
  ShardedOptimizer optimizer({{"weight", parameter, false}}, {}, *communicator);
  for (int i = 0; i < 40; ++i) {
    optimizer.backward(parameter.sum(), true);
    optimizer.clip_and_step(at::full({1}, 1e-3, at::kDouble));
  }
  REQUIRE(parameter[0].item<float>() == Catch::Approx(0.96).epsilon(0.004));
  for (const auto& item : optimizer.state()) {
    if (item.name != "weight.master") continue;
    REQUIRE(item.tensor[0].item<float>() == Catch::Approx(0.96).epsilon(1e-4));
    REQUIRE(at::equal(parameter.detach(), item.tensor.to(at::kBFloat16)));
  }
}

TEST_CASE("A restored state goes on bit for bit", "[zero]") {
  for (at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    auto communicator = comm::make_single_process_communicator();
    OptimizerOptions options = kOptions;
    options.loss_scaler = optim::LossScalerOptions{.initial_scale = 8, .loss_scale_window = 2};
    Network network(type), resumed(type);
    ShardedOptimizer optimizer(network.parameters(), options, *communicator);
    const auto step = [](Network& net, ShardedOptimizer& opt, int64_t sample) {
      opt.backward(net.loss(sample), true);
      opt.clip_and_step(at::arange(1, 21, at::kDouble) * 0.01);
    };
    for (int64_t i = 0; i < 5; ++i) step(network, optimizer, i);
    {
      at::NoGradGuard no_grad;
      resumed.first.copy_(network.first);
      resumed.bias.copy_(network.bias);
      resumed.second.copy_(network.second);
    }
    ShardedOptimizer second(resumed.parameters(), options, *communicator);
    second.restore(optimizer.state());
    for (int64_t i = 5; i < 10; ++i) {
      step(network, optimizer, i);
      step(resumed, second, i);
    }
    REQUIRE(at::equal(network.all(), resumed.all()));
    REQUIRE(second.num_applied_updates() == 10);
  }
}

TEST_CASE("A state that does not fit is one error that lists all of it", "[zero]") {
  auto communicator = comm::make_single_process_communicator();
  Network network;
  ShardedOptimizer optimizer(network.parameters(), {}, *communicator);
  auto state = optimizer.state();
  state[0].tensor = at::zeros({2});
  state[1].name = "other.exp_avg_sq";
  test::require_error(ErrorKind::kCheckpoint,
                      {"first.weight.exp_avg is Float [2], not Float [4, 6]", "missing: first.weight.exp_avg_sq",
                       "unexpected: other.exp_avg_sq"},
                      [&] { optimizer.restore(state); });
}

TEST_CASE("Values that no run can have saved are told", "[zero]") {
  auto communicator = comm::make_single_process_communicator();
  Network network;
  OptimizerOptions options = kOptions;
  options.loss_scaler = optim::LossScalerOptions();
  ShardedOptimizer optimizer(network.parameters(), options, *communicator);
  std::vector<zero::NamedState> state;
  for (const zero::NamedState& item : optimizer.state()) state.push_back({item.name, item.tensor.clone()});
  optimizer.restore(state);
  const auto item_of = [&](const std::string& name) -> zero::NamedState& {
    return *std::find_if(state.begin(), state.end(), [&](const zero::NamedState& item) { return item.name == name; });
  };
  const auto is_refused = [&](const std::string& name) {
    test::require_error(ErrorKind::kCheckpoint, {name + " is"}, [&] { optimizer.restore(state); });
  };
  const int64_t num_updates =
      GENERATE(as<int64_t>(), -1, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min());
  const double scaler_value = GENERATE(std::numeric_limits<double>::quiet_NaN(), 1e300, -3.0, 0.5);
  item_of("applied_updates").tensor.fill_(num_updates);
  is_refused("applied_updates");
  item_of("applied_updates").tensor.fill_(3);
  optimizer.restore(state);
  item_of("loss_scaler").tensor[1] = scaler_value;
  is_refused("loss_scaler");
  item_of("loss_scaler").tensor[1] = 2;
  item_of("loss_scaler").tensor[0] = std::numeric_limits<double>::quiet_NaN();
  is_refused("loss_scaler");
}

TEST_CASE("Mistakes of the caller are told", "[zero]") {
  auto communicator = comm::make_single_process_communicator();
  Network network;
  const auto make = [&](std::vector<zero::TrainableParameter> parameters, OptimizerOptions options = {}) {
    ShardedOptimizer optimizer(std::move(parameters), options, *communicator);
  };
  test::require_error(ErrorKind::kInternal, {"stage 4"}, [&] { make(network.parameters(), {.stage = 4}); });
  test::require_error(ErrorKind::kInternal, {"tied", "another name"}, [&] {
    make({{"embed", network.first, true}, {"tied", network.first, true}});
  });
  ShardedOptimizer optimizer(network.parameters(), {}, *communicator);
  test::require_error(ErrorKind::kInternal, {"last micro-batch"}, [&] { optimizer.clip_and_step(kConstantRate); });
  test::require_error(ErrorKind::kInternal, {"reached no trainable parameter"},
                      [&] { optimizer.backward(at::ones({}).set_requires_grad(true) * 2, false); });
}
