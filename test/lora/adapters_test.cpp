#include "lora/adapters.h"

#include <torch/nn/module.h>

#include "catch_amalgamated.hpp"

using namespace dsft;

namespace {

/// Two Linear modules, one behind the other; the second has a bias.
struct Network final : torch::nn::Module {
  Network() {
    torch::manual_seed(5);
    first = register_module("first", std::make_shared<nn::Linear>(6, 5, at::kFloat));
    second = register_module("second", nn::Linear::with_bias(5, 4, at::kFloat));
    torch::NoGradGuard no_grad;
    for (at::Tensor& parameter : parameters()) parameter.copy_(torch::randn_like(parameter));
  }

  at::Tensor forward(const at::Tensor& x) const {
    return second->forward(torch::tanh(first->forward(x, nn::ForwardContext{})), nn::ForwardContext{});
  }

  std::shared_ptr<nn::Linear> first, second;
};

const std::vector<spec::LoraTarget> kTargets = {
    {.module = "first", .r = 3, .lora_alpha = 6, .scale = 2.0, .in_features = 6, .out_features = 5},
    {.module = "second", .r = 2, .lora_alpha = 1, .scale = 0.5, .in_features = 5, .out_features = 4}};

at::Tensor input() {
  torch::manual_seed(9);
  return torch::randn({7, 6});
}

/// As after some training: B is not zero.
void fill_adapters(const Network& network) {
  torch::NoGradGuard no_grad;
  for (auto& item : lora::adapted_modules(network))
    item.linear->adapter()->b.copy_(torch::randn_like(item.linear->adapter()->b));
}

/// Base plus adapters in float64, written out.
at::Tensor expected_output(const Network& network, const at::Tensor& x) {
  const auto layer = [](const nn::Linear& linear, const at::Tensor& in) {
    const auto wide = [](const at::Tensor& tensor) { return tensor.detach().to(at::kDouble); };
    const nn::LoraAdapter& adapter = *linear.adapter();
    const at::Tensor weight = wide(linear.weight()) + adapter.scale * wide(adapter.b).mm(wide(adapter.a));
    return in.mm(weight.t());
  };
  const at::Tensor hidden = torch::tanh(layer(*network.first, x.to(at::kDouble)));
  return layer(*network.second, hidden) + network.second->bias().detach().to(at::kDouble);
}

}  // namespace

TEST_CASE("LoRA adds scale * B A, and nothing at its start", "[lora]") {
  Network network;
  const at::Tensor x = input(), base = network.forward(x);
  lora::attach(network, kTargets, {}, {}, 42);
  CHECK(torch::equal(network.forward(x), base));
  fill_adapters(network);
  const at::Tensor expected = expected_output(network, x);
  CHECK((network.forward(x).detach() - expected).abs().max().item<double>() < 1e-4);
  CHECK((expected - base).abs().max().item<double>() > 0.1);
}

TEST_CASE("Only adapters train, with the saved modules and the biases that the settings name", "[lora]") {
  const auto names = [](const Network& network) {
    std::vector<std::string> list;
    for (const auto& item : lora::trainable_tensors(network)) list.push_back(item.name);
    return list;
  };
  const std::vector<spec::LoraTarget> first = {kTargets[0]};
  Network plain, biased, lora_only, saved;
  lora::attach(plain, first, {}, {}, 42);
  CHECK(names(plain) == std::vector<std::string>{"first.lora_A.weight", "first.lora_B.weight"});
  lora::LoraConfig config;
  config.bias = lora::Bias::kAll;
  lora::attach(biased, first, {}, config, 42);
  CHECK(names(biased).back() == "second.bias");
  config.bias = lora::Bias::kLoraOnly;  // the target has none
  lora::attach(lora_only, first, {}, config, 42);
  CHECK(names(lora_only).size() == 2);
  lora::attach(saved, first, {"second"}, {}, 42);
  CHECK(names(saved) ==
        std::vector<std::string>{"first.lora_A.weight", "first.lora_B.weight", "second.weight", "second.bias"});
}

TEST_CASE("AdaptersDisabled shows the base model and puts back what it found", "[lora]") {
  Network network;
  const at::Tensor x = input(), base = network.forward(x);
  lora::attach(network, kTargets, {}, {}, 42);
  fill_adapters(network);
  const at::Tensor adapted = network.forward(x);
  {
    const lora::AdaptersDisabled outer(network);
    CHECK(torch::equal(network.forward(x), base));
    {
      const lora::AdaptersDisabled inner(network);
      CHECK(torch::equal(network.forward(x), base));
    }
    CHECK(torch::equal(network.forward(x), base));  // the inner scope switches on nothing that it did not switch off
  }
  CHECK(torch::equal(network.forward(x), adapted));
  network.first->adapter()->is_enabled = false;
  { const lora::AdaptersDisabled scope(network); }
  CHECK(!network.first->adapter()->is_enabled);
  CHECK(network.second->adapter()->is_enabled);
}

TEST_CASE("A starts uniform below 1 / sqrt(in), or normal with deviation 1 / r, and B at zero", "[lora]") {
  const std::vector<spec::LoraTarget> wide = {
      {.module = "first", .r = 2000, .lora_alpha = 1, .scale = 1, .in_features = 6, .out_features = 5}};
  Network uniform, gaussian;
  lora::LoraConfig config;
  lora::attach(uniform, wide, {}, config, 42);
  const at::Tensor a = uniform.first->adapter()->a.detach().to(at::kDouble);
  const double bound = 1 / std::sqrt(6.0);
  CHECK(a.abs().max().item<double>() <= bound);
  CHECK(a.abs().max().item<double>() > 0.99 * bound);
  CHECK(a.std().item<double>() == Catch::Approx(bound / std::sqrt(3.0)).epsilon(0.03));
  config.init_lora_weights = lora::InitLoraWeights::kGaussian;
  lora::attach(gaussian, wide, {}, config, 42);
  CHECK(gaussian.first->adapter()->a.detach().std().item<double>() == Catch::Approx(1.0 / 2000).epsilon(0.03));
  CHECK(gaussian.first->adapter()->b.abs().max().item<double>() == 0);
}
