#include "nn/side_by_side.h"

#include <torch/types.h>

#include <limits>

#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "nn/leaf_gradient.h"

using namespace dsft;

namespace {

constexpr int64_t kIn = 24;

// How the sums of gradients lie that are there before the first backward pass, or the places that are offered for them.
enum class Sums { kRows, kColumns, kMissing, kOffered };

struct Case {
  std::vector<int64_t> adapted;  // which of the three Linears
  double dropout = 0;            // of the last one of them
  bool trains_weights = false, trains_biases = false, lies_apart = false;
  int64_t num_tokens = 7;
  bool trains_last_a = true, trains_last_b = true;  // of the last one of `adapted`
  Sums sums = Sums::kRows;
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
    if (i == c.adapted.back()) {
      adapter.dropout = c.dropout;
      adapter.a.requires_grad_(c.trains_last_a);
      adapter.b.requires_grad_(c.trains_last_b);
    }
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
    std::vector<at::Tensor> parameters = linear->parameters();
    if (linear->adapter()) parameters.insert(parameters.end(), {linear->adapter()->a, linear->adapter()->b});
    for (const at::Tensor& parameter : parameters)
      if (parameter.requires_grad()) trained.push_back(parameter);
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

TEST_CASE("Memory that Linears were made in goes when all of them have moved out", "[nn]") {
  const auto linears = nn::make_side_by_side(kIn, {16, 8, 8}, /*has_bias=*/true, at::kFloat);
  const auto storage_of = [](const at::Tensor& tensor) { return tensor.storage().getWeakStorageImpl(); };
  const auto weights = storage_of(linears[0]->weight()), biases = storage_of(linears[0]->bias());
  for (const auto& linear : linears) {
    CHECK(!weights.expired());
    CHECK(!biases.expired());
    for (at::Tensor& parameter : linear->parameters()) parameter.set_data(parameter.detach().clone());
  }
  CHECK(weights.expired());
  CHECK(biases.expired());
}

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

namespace {

TEST_CASE("Adapters that a generation keeps are made narrow once, and again in their place when they are renewed",
          "[nn]") {
  torch::manual_seed(4);
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  auto linears = nn::make_side_by_side(12, {5, 7}, /*has_bias=*/false, type);
  const torch::NoGradGuard no_grad;
  for (auto& linear : linears) {
    linear->weight().normal_();
    linear->adapter() =
        nn::LoraAdapter{.a = torch::randn({2, 12}), .b = torch::randn({linear->out_features(), 2}), .scale = 0.5};
  }
  const std::vector<const nn::Linear*> group = {linears[0].get(), linears[1].get()};
  const at::Tensor x = torch::randn({3, 12}).to(type);
  nn::KeptNarrowAdapters kept;
  nn::ForwardContext context;
  context.adapters = &kept;
  const at::Tensor before = nn::multiply_side_by_side(x, group, nn::ForwardContext{});
  CHECK(nn::multiply_side_by_side(x, group, context).equal(before));
  const auto unasked = []() -> nn::NarrowAdapters { throw std::runtime_error("made again"); };
  const void* address = kept.get(group[0], unasked).a.const_data_ptr();
  linears[1]->adapter()->b.mul_(3.0);
  const at::Tensor after = nn::multiply_side_by_side(x, group, nn::ForwardContext{});
  REQUIRE_FALSE(after.equal(before));
  CHECK(nn::multiply_side_by_side(x, group, context).equal(before));
  kept.renew();
  CHECK(nn::multiply_side_by_side(x, group, context).equal(after));
  CHECK(kept.get(group[0], unasked).a.const_data_ptr() == address);
}

// Trained as an optimizer has it: weights in `type`, adapters in fp32, the sum of each gradient a view of one fp32
// buffer. Values and sums against plain autograd in float64.
void check_sums(Case c, at::ScalarType type, at::Device device) {
  torch::manual_seed(7);
  const auto linears = make_linears(c);
  at::Tensor x = torch::randn({c.num_tokens, kIn}).to(type).to(at::kDouble).requires_grad_(true);
  const at::Tensor direction = torch::randn({c.num_tokens, 32}).to(type);
  nn::ForwardContext context = training_context(c.num_tokens);
  for (const auto& linear : linears) {  // numbers that both types have
    const torch::NoGradGuard no_grad;
    for (at::Tensor& parameter : linear->parameters()) parameter.copy_(parameter.to(type));
    if (auto& adapter = linear->adapter()) adapter->a.copy_(adapter->a.to(type)), adapter->b.copy_(adapter->b.to(type));
  }
  const at::Tensor exact = expected_of(x, linears, context);
  exact.backward(direction.to(at::kDouble));
  const auto trained = trained_of(x, linears);
  const auto expected = take_gradients(trained);
  const auto move = [&](at::Tensor leaf, at::ScalarType to) {
    const bool is_trained = leaf.requires_grad();
    leaf.set_requires_grad(false);
    leaf.set_data(leaf.detach().to(device, to));
    leaf.set_requires_grad(is_trained);
  };
  const auto is_own = [&](const at::Tensor& tensor) {
    return std::any_of(trained.begin(), trained.end(), [&](const at::Tensor& other) { return other.is_same(tensor); });
  };
  at::Tensor flat = torch::full({4096}, 0.25, at::TensorOptions(device));
  int64_t offset = 0;
  std::vector<at::Tensor> sums;
  for (size_t i = 0; i < trained.size(); ++i) {
    move(trained[i], i == 0 || c.trains_weights ? type : at::kFloat);
    if (i == 0 || c.sums == Sums::kMissing) continue;
    const at::Tensor sum = flat.narrow(0, offset, trained[i].numel());
    sums.push_back(c.sums == Sums::kColumns ? sum.view(trained[i].t().sizes()).t() : sum.view(trained[i].sizes()));
    offset += trained[i].numel() + (c.lies_apart ? 15 : 0);
    if (c.sums == Sums::kOffered)
      nn::offer_gradient(trained[i], sums.back().fill_(std::numeric_limits<float>::quiet_NaN()));
    else
      at::Tensor(trained[i]).mutable_grad() = sums.back();
  }
  for (const auto& linear : linears) {
    for (const at::Tensor& parameter : linear->parameters())
      if (!is_own(parameter)) move(parameter, type);
    if (const auto& adapter = linear->adapter())
      for (const at::Tensor& parameter : {adapter->a, adapter->b})
        if (!is_own(parameter)) move(parameter, at::kFloat);
  }
  context.dropout.sample_keys = context.dropout.sample_keys.to(device);
  context.dropout.positions = context.dropout.positions.to(device);
  const std::vector<const nn::Linear*> parts = {linears[0].get(), linears[1].get(), linears[2].get()};
  const double bound = type == at::kFloat ? 1e-5 : 2e-2;
  const auto check_close = [&](const at::Tensor& actual, const at::Tensor& wanted) {
    CHECK((actual.cpu().to(at::kDouble) - wanted).abs().max().item<double>() <
          bound * std::max(1.0, wanted.abs().max().item<double>()));
  };
  for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
    const at::Tensor y = nn::multiply_side_by_side(x, parts, context);
    check_close(y.detach(), exact.detach());
    y.backward(direction.to(device));
  }
  for (size_t i = 1; i < trained.size(); ++i) {
    INFO("gradient " << i);
    if (!sums.empty()) CHECK(trained[i].grad().data_ptr() == sums[i - 1].data_ptr());
    check_close(trained[i].grad(), expected[i] * 2 + (c.sums == Sums::kRows || c.sums == Sums::kColumns ? 0.25 : 0));
  }
  CHECK((flat.narrow(0, offset, flat.numel() - offset) == 0.25).all().item<bool>());
  check_close(x.grad(), expected[0] * 2);
}

Case generate_case() {
  Case c{.adapted = GENERATE(std::vector<int64_t>{}, std::vector<int64_t>{1}, std::vector<int64_t>{0, 2},
                             std::vector<int64_t>{0, 1, 2}),
         .dropout = GENERATE(0.0, 0.3),
         .lies_apart = GENERATE(false, true)};
  c.trains_weights = c.adapted.empty();
  return c;
}

}  // namespace

TEST_CASE("Gradients are added to the sums that are there, also where these lie side by side", "[nn]") {
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  const Case c = generate_case();
  INFO(c.adapted.size() << " adapters, " << (c.lies_apart ? "apart, " : "together, ") << c10::toString(type));
  check_sums(c, type, at::kCPU);
}

TEST_CASE("Gradients of weights are written where places are offered, also where these lie side by side", "[nn][gpu]") {
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  Case c{.adapted = {}, .trains_weights = true, .lies_apart = GENERATE(false, true), .sums = Sums::kOffered};
  INFO((c.lies_apart ? "apart, " : "together, ") << c10::toString(type));
  check_sums(c, type, at::kCPU);
  if (device::has_cuda()) check_sums(c, type, at::Device(at::kCUDA, 0));
}

TEST_CASE("On a GPU Linears side by side agree with float64, values and sums of gradients", "[nn][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  const auto type = GENERATE(at::kFloat, at::kBFloat16, at::kHalf);
  const Case c = generate_case();
  INFO(c.adapted.size() << " adapters, " << (c.lies_apart ? "apart, " : "together, ") << c10::toString(type));
  check_sums(c, type, at::Device(at::kCUDA, 0));
}

TEST_CASE("Gradients of several adapters are right whichever of them are trained and wherever their sums lie", "[nn]") {
  const auto sums = GENERATE(Sums::kRows, Sums::kColumns, Sums::kMissing);
  const bool trains_last_a = GENERATE(true, false), trains_last_b = GENERATE(true, false);
  check_sums({.adapted = {0, 1, 2}, .trains_last_a = trains_last_a, .trains_last_b = trains_last_b, .sums = sums},
             at::kBFloat16, at::kCPU);
}

TEST_CASE("On a GPU gradients of several adapters are right for few and many tokens, wherever their sums lie",
          "[nn][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  const auto type = GENERATE(at::kBFloat16, at::kHalf);
  Case c{.adapted = GENERATE(std::vector<int64_t>{0, 2}, std::vector<int64_t>{0, 1, 2}),
         .dropout = GENERATE(0.0, 0.3),
         .lies_apart = true,
         .num_tokens = GENERATE(1, 512, 3000)};
  c.sums = GENERATE(Sums::kRows, Sums::kColumns, Sums::kMissing);
  c.trains_last_a = GENERATE(true, false);
  c.trains_last_b = GENERATE(true, false);
  INFO(c.adapted.size() << " adapters, dropout " << c.dropout << ", " << c.num_tokens << " tokens, sums "
                        << static_cast<int>(c.sums) << (c.trains_last_a ? "" : ", an a frozen")
                        << (c.trains_last_b ? "" : ", a b frozen") << ", " << c10::toString(type));
  check_sums(c, type, at::Device(at::kCUDA, 0));
}

TEST_CASE("On a GPU the gradients of several adapters are the same bits each time", "[nn][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(9);
  const auto options = at::TensorOptions(at::kBFloat16).device(at::kCUDA);
  const auto linears = nn::make_side_by_side(1024, {2048, 1024, 1024}, /*has_bias=*/false, options);
  at::Tensor flat = torch::empty({16 * (3 * 1024 + 4096)}, options.dtype(at::kFloat));
  int64_t offset = 0;
  const auto next = [&](int64_t rows, int64_t columns) {
    at::Tensor leaf = torch::randn({rows, columns}, flat.options()).mul_(0.1).requires_grad_(true);
    leaf.mutable_grad() = flat.narrow(0, offset, leaf.numel()).view(leaf.sizes());
    offset += leaf.numel();
    return leaf;
  };
  for (const auto& linear : linears) {
    const torch::NoGradGuard no_grad;
    linear->weight().normal_(0, 0.02).requires_grad_(false);
    linear->adapter() = nn::LoraAdapter{.a = next(16, 1024), .b = next(linear->out_features(), 16), .scale = 2};
  }
  const at::Tensor x = torch::randn({512, 1024}, options).requires_grad_(true),
                   direction = torch::randn({512, 4096}, options);
  at::Tensor first;
  for (int run = 0; run < 5; ++run) {
    flat.fill_(0.25);
    const auto version = flat._version();
    nn::multiply_side_by_side(x, {linears[0].get(), linears[1].get(), linears[2].get()}, {}).backward(direction);
    if (run == 0) first = flat.clone();
    CHECK(flat._version() > version);  // how an optimizer sees that gradients came
    CHECK(torch::equal(flat, first));
  }
  CHECK_FALSE((first == 0.25).all().item<bool>());
}

TEST_CASE("A result whose values are not read has the gradients of one that is", "[nn]") {
  torch::manual_seed(8);
  const auto linears = make_linears({.adapted = {0, 1}});
  const at::Tensor x = torch::randn({4, kIn}, at::kDouble).requires_grad_(true),
                   direction = torch::randn({4, 32}, at::kDouble);
  const auto trained = trained_of(x, linears);
  const std::vector<const nn::Linear*> parts = {linears[0].get(), linears[1].get(), linears[2].get()};
  nn::multiply_side_by_side(x, parts, {}).backward(direction);
  const auto expected = take_gradients(trained);
  nn::multiply_side_by_side(x, parts, {}, nn::Values::kUnread).backward(direction);
  const auto actual = take_gradients(trained);
  for (size_t i = 0; i < expected.size(); ++i) CHECK(torch::equal(actual[i], expected[i]));
}
