#include "nn/side_by_side.h"

#include <torch/types.h>

#include "catch_amalgamated.hpp"

using namespace dsft;

namespace {

constexpr int64_t kIn = 24;

struct Case {
  std::vector<int64_t> adapted;  // which of the three Linears
  double dropout = 0;            // of the last one of them
  bool trains_weights = false, trains_biases = false, lies_apart = false;
  int64_t num_tokens = 7;
};

std::vector<std::shared_ptr<nn::Linear>> make_linears(const Case& c) {
  auto linears = nn::make_side_by_side(kIn, {16, 8, 8}, /*has_bias=*/true, at::kDouble);
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < linears.size(); ++i) {
    for (at::Tensor& parameter : linears[i]->parameters()) {
      if (c.lies_apart) parameter.set_data(parameter.clone());
      parameter.normal_();
    }
    linears[i]->weight().requires_grad_(c.trains_weights);
    linears[i]->parameters().back().requires_grad_(c.trains_biases);
  }
  for (const int64_t i : c.adapted) {
    nn::LoraAdapter adapter{.a = torch::randn({3 + i, kIn}, at::kDouble).requires_grad_(true),
                            .b = torch::randn({linears[i]->out_features(), 3 + i}, at::kDouble).requires_grad_(true),
                            .scale = 0.5 + static_cast<double>(i)};
    if (i == c.adapted.back()) adapter.dropout = c.dropout;
    adapter.dropout_key = static_cast<uint64_t>(100 + i);
    linears[i]->adapter() = adapter;
  }
  return linears;
}

nn::ForwardContext training_context(int64_t num_tokens) {
  nn::ForwardContext context;
  context.dropout = {42, torch::arange(num_tokens, at::kLong), torch::arange(num_tokens, at::kLong) * 3};
  return context;
}

// The definition, by plain operations and autograd.
at::Tensor expected_of(const at::Tensor& x, const std::vector<std::shared_ptr<nn::Linear>>& linears,
                       const nn::ForwardContext& context) {
  std::vector<at::Tensor> results;
  for (const auto& linear : linears) {
    at::Tensor y = x.matmul(linear->weight().t()) + linear->bias();
    if (const auto& adapter = linear->adapter()) {
      const at::Tensor factors =
          kernels::counter_dropout_factors(kIn, adapter->dropout, adapter->dropout_key, context.dropout, at::kCPU);
      const at::Tensor dropped = adapter->dropout > 0 ? x * factors.to(at::kDouble) : x;
      y = y + adapter->scale * dropped.matmul(adapter->a.t()).matmul(adapter->b.t());
    }
    results.push_back(y);
  }
  return torch::cat(results, 1);
}

std::vector<at::Tensor> trained_of(const at::Tensor& x, const std::vector<std::shared_ptr<nn::Linear>>& linears) {
  std::vector<at::Tensor> trained = {x};
  for (const auto& linear : linears) {
    for (const at::Tensor& parameter : linear->parameters())
      if (parameter.requires_grad()) trained.push_back(parameter);
    if (linear->adapter()) trained.insert(trained.end(), {linear->adapter()->a, linear->adapter()->b});
  }
  return trained;
}

std::vector<at::Tensor> take_gradients(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> gradients;
  for (at::Tensor tensor : tensors) {
    gradients.push_back(tensor.grad().clone());
    tensor.mutable_grad() = at::Tensor();
  }
  return gradients;
}

void check(const Case& c) {
  torch::manual_seed(3);
  const auto linears = make_linears(c);
  const at::Tensor x = torch::randn({c.num_tokens, kIn}, at::kDouble).requires_grad_(true);
  const at::Tensor direction = torch::randn({c.num_tokens, 32}, at::kDouble);
  const nn::ForwardContext context = training_context(c.num_tokens);
  const auto trained = trained_of(x, linears);
  const at::Tensor expected = expected_of(x, linears, context);
  expected.backward(direction);
  const auto expected_gradients = take_gradients(trained);
  const at::Tensor actual =
      nn::multiply_side_by_side(x, {linears[0].get(), linears[1].get(), linears[2].get()}, context);
  actual.backward(direction);
  const auto actual_gradients = take_gradients(trained);
  CHECK(torch::allclose(actual, expected, 1e-10, 1e-10));
  for (size_t i = 0; i < trained.size(); ++i) {
    INFO("gradient " << i);
    CHECK(torch::allclose(actual_gradients[i], expected_gradients[i], 1e-6, 1e-6));
  }
}

}  // namespace

TEST_CASE("Linears side by side give what each gives alone, values and every gradient", "[nn]") {
  const std::vector<int64_t> adapted = GENERATE(std::vector<int64_t>{}, std::vector<int64_t>{0, 2},
                                                std::vector<int64_t>{1}, std::vector<int64_t>{0, 1, 2});
  Case c{.adapted = adapted, .lies_apart = GENERATE(false, true), .num_tokens = GENERATE(7, 1, 0)};
  c.trains_biases = GENERATE(false, true);
  if (adapted.empty())
    c.trains_weights = true;
  else
    c.dropout = GENERATE(0.0, 0.3);
  INFO(adapted.size() << " adapters, dropout " << c.dropout << ", " << c.num_tokens << " tokens"
                      << (c.lies_apart ? ", weights apart" : "") << (c.trains_biases ? ", biases trained" : ""));
  check(c);
}

TEST_CASE("An adapter that is switched off adds nothing, and weights that lie together stay one product's", "[nn]") {
  torch::manual_seed(5);
  const auto linears = make_linears({.adapted = {0, 1}});
  const at::Tensor x = torch::randn({4, kIn}, at::kDouble);
  linears[0]->adapter()->is_enabled = false;
  const at::Tensor both = nn::multiply_side_by_side(x, {linears[0].get(), linears[1].get(), linears[2].get()}, {});
  CHECK(torch::allclose(both.narrow(1, 0, 16), x.matmul(linears[0]->weight().t()) + linears[0]->bias()));
  CHECK(torch::allclose(both.narrow(1, 16, 8), linears[1]->forward(x, {})));
  CHECK(linears[1]->weight().storage_offset() == 16 * kIn);
  CHECK(linears[1]->weight().is_alias_of(linears[0]->weight()));
}
