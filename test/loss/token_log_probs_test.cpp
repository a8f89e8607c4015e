#include "loss/token_log_probs.h"

#include <limits>

#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "nn/leaf_gradient.h"
#include "support/tiny_model.h"

using namespace dsft;

namespace {

struct Problem {
  at::Tensor hidden, weight, targets, gradient;
};

Problem make_problem(int64_t rows) {
  torch::manual_seed(3);
  const int64_t size = 12, vocab_size = 37;
  return {torch::randn({rows, size}, at::kDouble), torch::randn({vocab_size, size}, at::kDouble),
          torch::randint(vocab_size, {rows}, at::kLong), torch::randn({rows}, at::kDouble)};
}

double largest_gap(const at::Tensor& actual, const at::Tensor& expected) {
  return (actual.to(at::kDouble) - expected).abs().max().item<double>();
}

}  // namespace

TEST_CASE("Log-probabilities over chunks equal log_softmax in float64, values and gradients", "[loss]") {
  const bool trains_head = GENERATE(false, true);
  const int64_t rows = 10, chunk_rows = GENERATE(1, 4, 5, 10, 100);  // 4: the last chunk is short
  INFO((trains_head ? "trained" : "frozen") << " head, chunks of " << chunk_rows);
  const Problem problem = make_problem(rows);
  at::Tensor hidden = problem.hidden.clone().requires_grad_(true), weight = problem.weight.clone().requires_grad_(true);
  const at::Tensor logits = torch::matmul(hidden, weight.t());
  const at::Tensor expected = torch::log_softmax(logits, -1).gather(1, problem.targets.unsqueeze(1)).squeeze(1);
  expected.backward(problem.gradient);

  at::Tensor x = problem.hidden.to(at::kFloat).requires_grad_(true);
  at::Tensor head = problem.weight.to(at::kFloat).requires_grad_(trains_head);
  const auto actual = loss::linear_log_probs(x, head, problem.targets, chunk_rows);
  actual.log_probs.backward(problem.gradient.to(at::kFloat));
  CHECK(largest_gap(actual.log_probs.detach(), expected.detach()) < 1e-5);
  CHECK(torch::equal(actual.is_argmax, logits.argmax(-1).eq(problem.targets)));
  CHECK(largest_gap(x.grad(), hidden.grad()) < 1e-5);
  if (trains_head) {
    CHECK(largest_gap(head.grad(), weight.grad()) < 1e-5);
  } else {
    CHECK(!head.grad().defined());
  }
}

TEST_CASE("In 16 bits log-probabilities are no further from float64 than the unfused operations, but for one rounding",
          "[loss][gpu]") {
  const bool trains_head = GENERATE(false, true);
  const at::Device device(device::has_cuda() ? at::kCUDA : at::kCPU);
  INFO((trains_head ? "trained" : "frozen") << " head on " << device.str());
  torch::manual_seed(4);
  const int64_t rows = 70, size = 64, vocab_size = 4096;
  const auto narrow = [&](const at::Tensor& x) { return x.to(device, at::kBFloat16); };
  const at::Tensor hidden = narrow(torch::randn({rows, size})), weight = narrow(torch::randn({vocab_size, size}) * 0.2);
  const at::Tensor targets = torch::randint(vocab_size, {rows}, at::kLong).to(device);
  const at::Tensor gradient = narrow(torch::rand({rows}) / rows);
  struct Results {
    at::Tensor log_probs, of_hidden, of_weight;
  };
  const auto results_of = [&](at::ScalarType type, const auto& log_probs_of) {
    const at::Tensor x = hidden.to(type).detach().clone().requires_grad_(true);
    const at::Tensor head = weight.to(type).detach().clone().requires_grad_(trains_head);
    const at::Tensor log_probs = log_probs_of(x, head);
    log_probs.backward(gradient.to(log_probs.scalar_type()));
    return Results{log_probs.detach(), x.grad(), head.grad()};
  };
  const auto unfused = [&](const at::Tensor& x, const at::Tensor& head) {
    return torch::log_softmax(x.mm(head.t()), -1).gather(1, targets.unsqueeze(1)).squeeze(1);
  };
  const Results exact = results_of(at::kDouble, unfused), plain = results_of(at::kBFloat16, unfused);
  const Results fused = results_of(at::kBFloat16, [&](const at::Tensor& x, const at::Tensor& head) {
    return loss::linear_log_probs(x, head, targets, 32).log_probs;
  });
  const auto check = [](const at::Tensor& actual, const at::Tensor& peer, const at::Tensor& expected) {
    const double rounding = expected.abs().max().item<double>() / 512;  // a frozen head's gradient is scaled last
    CHECK(largest_gap(actual, expected) <= largest_gap(peer, expected) + rounding);
    CHECK(largest_gap(actual, expected) > 0);  // it did compute in 16 bits
  };
  check(fused.log_probs, plain.log_probs, exact.log_probs);
  check(fused.of_hidden, plain.of_hidden, exact.of_hidden);
  if (trains_head) check(fused.of_weight, plain.of_weight, exact.of_weight);
}

TEST_CASE("Temperature and entropies over chunks equal log_softmax in float64, values and gradients", "[loss]") {
  const bool trains_head = GENERATE(false, true);
  const auto asked = GENERATE(loss::Entropies::kValues, loss::Entropies::kDifferentiable);
  const int64_t chunk_rows = GENERATE(4, 100);
  const bool is_trained = asked == loss::Entropies::kDifferentiable;
  INFO((trains_head ? "trained" : "frozen") << " head, entropies " << (is_trained ? "trained" : "not trained"));
  const double temperature = 0.6;
  const Problem problem = make_problem(10);
  at::Tensor hidden = problem.hidden.clone().requires_grad_(true), weight = problem.weight.clone().requires_grad_(true);
  const at::Tensor wide = torch::log_softmax(torch::matmul(hidden, weight.t()) / temperature, -1);
  const at::Tensor expected = wide.gather(1, problem.targets.unsqueeze(1)).squeeze(1);
  const at::Tensor entropies = -(wide.exp() * wide).sum(-1);
  const at::Tensor of_entropies = torch::randn({10}, at::kDouble);
  ((expected * problem.gradient).sum() + (is_trained ? (entropies * of_entropies).sum() : 0 * entropies.sum()))
      .backward();

  at::Tensor x = problem.hidden.to(at::kFloat).requires_grad_(true);
  at::Tensor head = problem.weight.to(at::kFloat).requires_grad_(trains_head);
  const auto actual = loss::linear_log_probs(x, head, problem.targets, chunk_rows, {temperature, asked});
  CHECK(actual.entropies.requires_grad() == is_trained);
  (actual.log_probs * problem.gradient.to(at::kFloat) + actual.entropies * of_entropies.to(at::kFloat))
      .sum()
      .backward();
  CHECK(largest_gap(actual.log_probs.detach(), expected.detach()) < 1e-5);
  CHECK(largest_gap(actual.entropies.detach(), entropies.detach()) < 1e-5);
  CHECK(largest_gap(x.grad(), hidden.grad()) < 2e-5);
  if (trains_head) CHECK(largest_gap(head.grad(), weight.grad()) < 2e-5);
}

TEST_CASE("Where a place is offered for the head's gradient the chunks write all of it", "[loss][gpu]") {
  const int64_t chunk_rows = GENERATE(1, 4, 10);
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  const at::Device device(device::has_cuda() ? at::kCUDA : at::kCPU);
  const Problem problem = make_problem(10);
  const auto gradient_with = [&](const at::Tensor& place) {
    at::Tensor x = problem.hidden.to(device, type).requires_grad_(true);
    at::Tensor head = problem.weight.to(device, type).requires_grad_(true);
    if (place.defined()) nn::offer_gradient(head, place);
    loss::linear_log_probs(x, head, problem.targets.to(device), chunk_rows)
        .log_probs.backward(problem.gradient.to(device, at::kFloat));
    return head.grad();
  };
  const at::Tensor place = torch::full(problem.weight.sizes(), std::numeric_limits<float>::quiet_NaN(), device);
  const at::Tensor expected = gradient_with({}), actual = gradient_with(place);
  CHECK(actual.is_same(place));
  CHECK(largest_gap(actual.to(type), expected.to(at::kDouble)) <= (type == at::kFloat ? 1e-6 : 0.01));
}

TEST_CASE("Without a row the head's gradients are zero, and defined", "[loss]") {
  const bool trains_head = GENERATE(false, true);
  const Problem problem = make_problem(0);
  at::Tensor x = problem.hidden.to(at::kFloat).requires_grad_(true);
  at::Tensor head = problem.weight.to(at::kFloat).requires_grad_(trains_head);
  const auto result = loss::linear_log_probs(x, head, problem.targets);
  REQUIRE(result.log_probs.size(0) == 0);
  result.log_probs.sum().backward();
  CHECK(x.grad().sizes() == problem.hidden.sizes());
  if (trains_head) {
    REQUIRE(head.grad().sizes() == head.sizes());
    CHECK(head.grad().abs().max().item<double>() == 0);
  }
}

TEST_CASE("A batch without a label gives zero gradients to an adapter on the head", "[loss]") {
  auto lm = test::load_tiny_model("llama_plain");  // its head has a weight of its own
  const auto head = std::dynamic_pointer_cast<nn::Linear>(lm->named_modules()["lm_head"]);
  head->adapter() = nn::LoraAdapter{.a = torch::rand({4, head->in_features()}, torch::requires_grad()),
                                    .b = torch::rand({head->out_features(), 4}, torch::requires_grad())};
  const nn::BlockRunner runner;
  const Batch batch = make_batch({Document{{0}, {-100}, 0}}, 0);
  const at::Tensor none = torch::empty({0}, at::kLong);
  const auto result = loss::token_log_probs(*lm, lm->hidden_states(batch, runner, nullptr), none, none, runner);
  result.log_probs.sum().backward();
  const nn::LoraAdapter& adapter = *head->adapter();
  REQUIRE(adapter.a.grad().defined());
  REQUIRE(adapter.b.grad().defined());
  CHECK(adapter.a.grad().abs().max().item<double>() == 0);
  CHECK(adapter.b.grad().abs().max().item<double>() == 0);
}

TEST_CASE("An adapter on the head drops inputs by the keys of its tokens", "[loss]") {
  auto lm = test::load_tiny_model("llama_plain");
  const auto head = std::dynamic_pointer_cast<nn::Linear>(lm->named_modules()["lm_head"]);
  head->adapter() = nn::LoraAdapter{.a = torch::rand({4, head->in_features()}, torch::requires_grad()),
                                    .b = torch::rand({head->out_features(), 4}, torch::requires_grad()),
                                    .dropout = 0.5,
                                    .dropout_key = 9};
  const nn::BlockRunner runner;
  const Batch batch = make_batch(test::random_documents({7, 5}, 97, 3), 2);
  const model::TrainingMode training{11};
  const at::Tensor hidden = lm->hidden_states(batch, runner, nullptr).detach().requires_grad_(true);
  const at::Tensor rows = torch::tensor({1, 4, 8, 10}, at::kLong), targets = torch::tensor({3, 1, 90, 5}, at::kLong);
  const kernels::DropoutKeys keys = model::dropout_keys(batch, &training);
  const auto dropped = loss::token_log_probs(*lm, hidden, rows, targets, runner, keys);
  const auto logits = lm->run_head(hidden, runner, [&](const at::Tensor& x, const nn::Linear& linear) {
    const at::Tensor kept = x * kernels::counter_dropout_factors(x.size(1), 0.5, 9, keys, at::kCPU);
    const nn::LoraAdapter& adapter = *linear.adapter();
    return std::vector<at::Tensor>{x.mm(linear.weight().t()) + kept.mm(adapter.a.t()).mm(adapter.b.t())};
  })[0];
  const at::Tensor expected =
      torch::log_softmax(logits.index_select(0, rows), -1).gather(1, targets.unsqueeze(1)).squeeze(1);
  CHECK(largest_gap(dropped.log_probs.detach(), expected.detach().to(at::kDouble)) < 1e-5);
  const auto plain = loss::token_log_probs(*lm, hidden, rows, targets, runner);
  CHECK(largest_gap(plain.log_probs.detach(), expected.detach().to(at::kDouble)) > 1e-2);
  at::Tensor a = head->adapter()->a;
  dropped.log_probs.sum().backward();
  const at::Tensor gradient = a.grad().clone();
  a.mutable_grad().zero_();
  expected.sum().backward();
  CHECK(largest_gap(gradient, a.grad().to(at::kDouble)) < 1e-3);
}

TEST_CASE("A head with an adapter gives the same temperature and entropies", "[loss]") {
  auto lm = test::load_tiny_model("llama_plain");
  const nn::BlockRunner runner;
  const Batch batch = make_batch(test::random_documents({7, 5}, 97, 3), 2);
  const at::Tensor hidden = lm->hidden_states(batch, runner, nullptr).detach();
  const at::Tensor rows = torch::tensor({1, 4, 8, 10}, at::kLong), targets = torch::tensor({3, 1, 90, 5}, at::kLong);
  const loss::Distribution distribution{1.7, loss::Entropies::kDifferentiable};
  const auto plain = loss::token_log_probs(*lm, hidden, rows, targets, runner, {}, distribution);
  const auto head = std::dynamic_pointer_cast<nn::Linear>(lm->named_modules()["lm_head"]);
  head->adapter() = nn::LoraAdapter{.a = torch::rand({4, head->in_features()}, torch::requires_grad()),
                                    .b = torch::zeros({head->out_features(), 4}, torch::requires_grad())};
  const auto adapted = loss::token_log_probs(*lm, hidden, rows, targets, runner, {}, distribution);
  CHECK(largest_gap(adapted.log_probs.detach(), plain.log_probs.detach().to(at::kDouble)) < 1e-5);
  CHECK(largest_gap(adapted.entropies.detach(), plain.entropies.detach().to(at::kDouble)) < 1e-5);
  adapted.entropies.sum().backward();
  CHECK(head->adapter()->b.grad().abs().max().item<double>() > 0);
}
