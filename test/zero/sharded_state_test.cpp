// Stages 1 and 2: the optimizer's state and the gradients are sharded, and training is what it is at stage 0.
#include <torch/types.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "comm/single_process_communicator.h"
#include "comm/thread_ranks.h"
#include "support/require_error.h"
#include "zero/sharded_optimizer.h"

using namespace dsft;
using comm::Communicator;
using zero::NamedState;
using zero::OptimizerOptions;
using zero::ShardedOptimizer;

namespace {

constexpr int64_t kSamplesOfUpdate = 12;
const at::Tensor kRisingRates = at::arange(1, 9, at::kDouble) * 0.02;

/// Two layers in a block each, and an adapter that stays whole.
struct Layers {
  at::Tensor first, bias, adapter, second;

  explicit Layers(at::ScalarType type) {
    const auto leaf = [](const at::Tensor& values) { return values.clone().set_requires_grad(true); };
    first = leaf(at::sin(at::arange(210, at::kFloat)).view({35, 6}).to(type));
    bias = leaf(at::full({35}, 0.1).to(type));
    adapter = leaf(at::cos(at::arange(70, at::kFloat)).view({2, 35}));
    second = leaf(at::cos(at::arange(105, at::kFloat)).view({3, 35}).to(type));
  }

  std::vector<zero::TrainableParameter> parameters() const {
    return {{"first.weight", first, true, false, 0},
            {"first.bias", bias, false, false, 0},
            {"adapter", adapter, true, true, 1},
            {"second.weight", second, true, false, 2}};
  }

  at::Tensor loss(int64_t sample) const {
    const at::Tensor x = at::cos(at::arange(6, at::kFloat) * static_cast<double>(sample + 1));
    const at::Tensor hidden = at::tanh(at::matmul(first.to(at::kFloat), x) + bias.to(at::kFloat));
    return (at::matmul(second.to(at::kFloat), hidden) - 1).square().sum() +
           (at::matmul(adapter, hidden) - 0.5).square().sum();
  }

  at::Tensor all() const {
    std::vector<at::Tensor> flat;
    for (const at::Tensor& tensor : {first, bias, adapter, second})
      flat.push_back(tensor.detach().to(at::kFloat).flatten());
    return at::cat(flat);
  }
  void take(const Layers& other) {
    const at::NoGradGuard no_grad;
    first.copy_(other.first), bias.copy_(other.bias), adapter.copy_(other.adapter), second.copy_(other.second);
  }
};

OptimizerOptions options_of(int64_t stage, bool overlaps = true) {
  OptimizerOptions options{.stage = stage, .adamw = {.weight_decay = 0.1}, .max_grad_norm = 0.5};
  options.overlaps_backward = overlaps;
  return options;
}

double update_of(const Layers& layers, ShardedOptimizer& optimizer, Communicator& communicator, int64_t number) {
  const int64_t per_rank = kSamplesOfUpdate / communicator.size();
  for (int64_t i = 0; i < per_rank; ++i) {
    const int64_t sample = number * kSamplesOfUpdate + communicator.rank() * per_rank + i;
    optimizer.backward(layers.loss(sample) / static_cast<double>(kSamplesOfUpdate), i + 1 == per_rank);
  }
  return optimizer.clip_and_step(kRisingRates).grad_norm.item<double>();
}

struct TrainedRank {
  at::Tensor parameters;
  std::vector<double> norms;
  std::vector<NamedState> state;  // of this rank
};

/// `num_updates` updates on each of `num_ranks` threads; by rank.
std::vector<TrainedRank> train_ranks(int num_ranks, int num_updates, at::ScalarType type,
                                     const OptimizerOptions& options) {
  std::vector<TrainedRank> results(static_cast<size_t>(num_ranks));
  comm::run_thread_ranks(num_ranks, [&](Communicator& communicator) {
    const Layers layers(type);
    ShardedOptimizer optimizer(layers.parameters(), options, communicator);
    // the second layer's gradient is final when the first one's arrives
    layers.first.register_hook([&](at::Tensor) {
      optimizer.gradients_final({optimizer.index_of(layers.second)});
      optimizer.gradients_begin({optimizer.index_of(layers.first)});
    });
    TrainedRank& result = results[static_cast<size_t>(communicator.rank())];
    for (int number = 0; number < num_updates; ++number)
      result.norms.push_back(update_of(layers, optimizer, communicator, number));
    result.parameters = layers.all();
    for (const NamedState& item : optimizer.state()) result.state.push_back({item.name, item.tensor.clone()});
  });
  return results;
}

}  // namespace

TEST_CASE("Stages 1 and 2 train as stage 0 on one rank does, and all ranks have the same bits", "[zero]") {
  const int64_t stage = GENERATE(1, 2);
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  const TrainedRank expected = train_ranks(1, 8, type, options_of(0)).front();
  const int num_ranks = GENERATE(1, 2, 3, 4, 6);
  const bool overlaps = GENERATE(true, false);
  INFO(num_ranks << " ranks at stage " << stage << ", " << c10::toString(type));
  for (const TrainedRank& result : train_ranks(num_ranks, 8, type, options_of(stage, overlaps))) {
    // a gradient of 16 bits is rounded before the ranks' sums are made
    const double bound = type == at::kFloat ? 4e-6 : 2e-2;
    CHECK((result.parameters - expected.parameters).abs().max().item<float>() < bound);
    for (size_t i = 0; i < expected.norms.size(); ++i)
      CHECK(result.norms[i] == Catch::Approx(expected.norms[i]).epsilon(type == at::kFloat ? 1e-5 : 2e-2));
  }
  const auto results = train_ranks(num_ranks, 8, type, options_of(stage));
  for (const TrainedRank& result : results) CHECK(at::equal(result.parameters, results.front().parameters));
}

TEST_CASE("At stage 1 a rank holds its share of the state, and the adapters' whole", "[zero]") {
  const std::vector<TrainedRank> results = train_ranks(4, 1, at::kBFloat16, options_of(1));
  std::map<std::string, int64_t> elements;
  for (size_t rank = 0; rank < results.size(); ++rank) {
    int64_t own = 0;
    for (const NamedState& item : results[rank].state) {
      const std::string name = item.name.substr(0, item.name.find('@'));
      if (name != "applied_updates") elements[name] += item.tensor.numel();
      if (name.ends_with(".exp_avg") && name != "adapter.exp_avg") own += item.tensor.numel();
    }
    CHECK(own <= (210 + 35 + 16 * 4) / 4 + (105 + 16 * 4) / 4);
  }
  CHECK(elements == std::map<std::string, int64_t>{{"adapter.exp_avg", 70},
                                                   {"adapter.exp_avg_sq", 70},
                                                   {"first.bias.exp_avg", 35},
                                                   {"first.bias.exp_avg_sq", 35},
                                                   {"first.bias.master", 35},
                                                   {"first.weight.exp_avg", 210},
                                                   {"first.weight.exp_avg_sq", 210},
                                                   {"first.weight.master", 210},
                                                   {"second.weight.exp_avg", 105},
                                                   {"second.weight.exp_avg_sq", 105},
                                                   {"second.weight.master", 105}});
}

TEST_CASE("At stage 2 no gradient is there between backward passes but the sums of a rank's slices", "[zero]") {
  comm::run_thread_ranks(2, [&](Communicator& communicator) {
    const Layers layers(at::kBFloat16);
    ShardedOptimizer optimizer(layers.parameters(), options_of(2), communicator);
    DSFT_CHECK(!optimizer.has_stable_gradients(), "a whole gradient stays");
    for (const bool is_last : {false, true}) {
      optimizer.backward(layers.loss(communicator.rank()), is_last);
      DSFT_CHECK(!layers.first.grad().defined() && !layers.bias.grad().defined() && !layers.second.grad().defined() &&
                     layers.adapter.grad().defined(),
                 "a gradient is there that should not be");
    }
    optimizer.clip_and_step(kRisingRates);
    bool is_told = false;
    try {
      optimizer.rehearse_backward(at::ones({}).set_requires_grad(true) * 2);
    } catch (const Error&) {
      is_told = true;
    }
    DSFT_CHECK(is_told, "a backward pass that reaches no parameter is not told");
    optimizer.discard_gradients();
    // one rank alone rehearses: nothing waits for the other
    const at::Tensor before = layers.all();
    if (communicator.rank() == 1) {
      optimizer.rehearse_backward(layers.loss(7));
      optimizer.discard_gradients();
    }
    optimizer.backward(layers.loss(communicator.rank()), true);
    DSFT_CHECK(optimizer.clip_and_step(kRisingRates).is_applied.item<bool>() && !at::equal(layers.all(), before),
               "no update after a rehearsal");
  });
}

TEST_CASE("A sharded state goes on with any number of ranks, and at any stage", "[zero]") {
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  const int before = GENERATE(1, 3, 4), after = GENERATE(1, 2, 4);
  const int64_t stage = GENERATE(0, 1, 2);
  INFO(before << " ranks, then " << after << " at stage " << stage << ", " << c10::toString(type));
  const TrainedRank whole = train_ranks(before, 4, type, options_of(1)).front();
  std::vector<NamedState> state;
  for (const TrainedRank& rank : train_ranks(before, 2, type, options_of(1)))
    state.insert(state.end(), rank.state.begin(), rank.state.end());
  Layers reached(type);
  comm::run_thread_ranks(before, [&](Communicator& communicator) {
    Layers layers(type);
    ShardedOptimizer optimizer(layers.parameters(), options_of(1), communicator);
    for (int number = 0; number < 2; ++number) update_of(layers, optimizer, communicator, number);
    if (communicator.rank() == 0) reached.take(layers);
  });
  comm::run_thread_ranks(after, [&](Communicator& communicator) {
    Layers layers(type);
    layers.take(reached);
    ShardedOptimizer optimizer(layers.parameters(), options_of(stage), communicator);
    optimizer.restore(state);
    for (int number = 2; number < 4; ++number) update_of(layers, optimizer, communicator, number);
    const bool is_close =
        (layers.all() - whole.parameters).abs().max().item<float>() < (type == at::kFloat ? 4e-6 : 2e-2);
    const bool is_same = after != before || stage != 1 || at::equal(layers.all(), whole.parameters);
    DSFT_CHECK(is_close && is_same && optimizer.num_applied_updates() == 4, "the run that went on is another one");
  });
}

TEST_CASE("Parts of a state that do not make it up are told", "[zero]") {
  std::vector<NamedState> state;
  for (const TrainedRank& rank : train_ranks(2, 1, at::kFloat, options_of(1)))
    state.insert(state.end(), rank.state.begin(), rank.state.end());
  auto communicator = comm::make_single_process_communicator();
  const Layers layers(at::kFloat);
  ShardedOptimizer optimizer(layers.parameters(), options_of(0), *communicator);
  optimizer.restore(state);
  const auto item_of = [&](const std::string& name) {
    return std::find_if(state.begin(), state.end(), [&](const NamedState& item) { return item.name == name; });
  };
  REQUIRE(item_of("first.weight.exp_avg@0") != state.end());
  item_of("first.weight.exp_avg@0")->name = "first.weight.exp_avg@8";
  item_of("second.weight.exp_avg@0")->tensor = at::zeros({105});
  item_of("first.bias.exp_avg@0")->tensor = at::zeros({35}, at::kDouble);
  state.erase(item_of("second.weight.exp_avg_sq@0"));
  state.push_back({"first.weight.exp_avg_sq@9223372036854775807", at::zeros({2})});
  state.push_back({"applied_updates", at::full({}, 7, at::kLong)});
  test::require_error(
      ErrorKind::kCheckpoint,
      {"first.weight.exp_avg lacks elements 0 to 8", "second.weight.exp_avg has elements twice",
       "first.weight.exp_avg_sq@9223372036854775807 has 2 elements, of 210 in all",
       "first.bias.exp_avg@0 is Double [35], not flat Float", "second.weight.exp_avg_sq lacks elements 0 to 64",
       "applied_updates differs between the parts of the ranks"},
      [&] { optimizer.restore(state); });
}
