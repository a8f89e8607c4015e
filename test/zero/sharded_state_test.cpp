// Stages 1 and 2: the optimizer's state and the gradients are sharded, and training is what it is at stage 0.
#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "comm/single_process_communicator.h"
#include "comm/thread_ranks.h"
#include "support/counted_memory.h"
#include "support/require_error.h"
#include "zero/trained_layers.h"

using namespace dsft;
using comm::Communicator;
using test::kRisingRates;
using test::Layers;
using test::options_of_stage;
using test::train_ranks;
using test::TrainedRank;
using test::update_of;
using zero::NamedState;
using zero::ShardedOptimizer;

TEST_CASE("Stages 1 and 2 train as stage 0 on one rank does, and all ranks have the same bits", "[zero]") {
  const int64_t stage = GENERATE(1, 2);
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  const TrainedRank expected = train_ranks(1, 8, type, options_of_stage(0)).front();
  const int num_ranks = GENERATE(1, 2, 3, 4, 6);
  const bool overlaps = GENERATE(true, false);
  INFO(num_ranks << " ranks at stage " << stage << ", " << c10::toString(type));
  for (const TrainedRank& result : train_ranks(num_ranks, 8, type, options_of_stage(stage, overlaps))) {
    // a gradient of 16 bits is rounded before the ranks' sums are made
    const double bound = type == at::kFloat ? 4e-6 : 2e-2;
    CHECK((result.parameters - expected.parameters).abs().max().item<float>() < bound);
    for (size_t i = 0; i < expected.norms.size(); ++i)
      CHECK(result.norms[i] == Catch::Approx(expected.norms[i]).epsilon(type == at::kFloat ? 1e-5 : 2e-2));
  }
  const auto results = train_ranks(num_ranks, 8, type, options_of_stage(stage));
  for (const TrainedRank& result : results) CHECK(at::equal(result.parameters, results.front().parameters));
}

TEST_CASE("At stage 1 a rank holds its share of the state, and the adapters' whole", "[zero]") {
  const std::vector<TrainedRank> results = train_ranks(4, 1, at::kBFloat16, options_of_stage(1));
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
    ShardedOptimizer optimizer(layers.parameters(), options_of_stage(2), communicator);
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

TEST_CASE("A rehearsal holds what a pass holds whose gradients come on top of others", "[zero]") {
  constexpr int64_t kWidth = 256, kWhole = kWidth * kWidth * 4, kSlice = kWhole / 2;
  constexpr int64_t kVectors = 16 * kWidth * 4;  // some come, others go
  const int64_t stage = GENERATE(1, 2);
  const bool offloads = GENERATE(false, true);
  CAPTURE(stage, offloads);
  test::CountedMemory memory;
  comm::run_thread_ranks(2, [&](Communicator& communicator) {
    const auto ones = [](at::IntArrayRef sizes) { return at::ones(sizes).set_requires_grad(true); };
    const at::Tensor first = ones({kWidth, kWidth}), second = ones({kWidth, kWidth});
    zero::OptimizerOptions options = options_of_stage(stage);
    options.accumulates = true;
    if (offloads) options.offloads_state = zero::HostShare{device::HostPages::kPageable, 2};
    ShardedOptimizer optimizer({{"first", first, true, false, 0}, {"second", second, true, false, 1}}, options,
                               communicator);
    first.register_hook([&](const at::Tensor&) {
      optimizer.gradients_final({1});
      optimizer.gradients_begin({0});
    });
    communicator.barrier();
    if (communicator.rank() == 0) {
      const at::Tensor loss = at::matmul(second, at::matmul(first, at::ones({kWidth}))).sum();
      memory.restart();
      const int64_t before = memory.live_bytes();
      optimizer.rehearse_backward(loss);
      const int64_t peak = memory.peak_bytes() - before;
      optimizer.discard_gradients();
      // autograd's own tensor; at stage 2 the whole gradients of the block that runs and of the one before it, with a
      // slice of sums that are to be added, or, where the host has the state, are on their way there
      const int64_t expected = kWhole + (stage == 2 ? 2 * kWhole : 0) + (stage == 2 || offloads ? kSlice : 0);
      DSFT_CHECK(std::abs(peak - expected) < kVectors, peak, " bytes, not ", expected);
      DSFT_CHECK(memory.live_bytes() <= before, "a rehearsal leaves something behind");
    }
    communicator.barrier();
  });
}

TEST_CASE("A sharded state goes on with any number of ranks, and at any stage", "[zero]") {
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  const int before = GENERATE(1, 3, 4), after = GENERATE(1, 2, 4);
  const int64_t stage = GENERATE(0, 1, 2);
  INFO(before << " ranks, then " << after << " at stage " << stage << ", " << c10::toString(type));
  const TrainedRank whole = train_ranks(before, 4, type, options_of_stage(1)).front();
  std::vector<NamedState> state;
  for (const TrainedRank& rank : train_ranks(before, 2, type, options_of_stage(1)))
    state.insert(state.end(), rank.state.begin(), rank.state.end());
  Layers reached(type);
  comm::run_thread_ranks(before, [&](Communicator& communicator) {
    Layers layers(type);
    ShardedOptimizer optimizer(layers.parameters(), options_of_stage(1), communicator);
    for (int number = 0; number < 2; ++number) update_of(layers, optimizer, communicator, number);
    if (communicator.rank() == 0) reached.take(layers);
  });
  comm::run_thread_ranks(after, [&](Communicator& communicator) {
    Layers layers(type);
    layers.take(reached);
    ShardedOptimizer optimizer(layers.parameters(), options_of_stage(stage), communicator);
    optimizer.restore(state);
    for (int number = 2; number < 4; ++number) update_of(layers, optimizer, communicator, number);
    const bool is_close =
        (layers.all() - whole.parameters).abs().max().item<float>() < (type == at::kFloat ? 4e-6 : 2e-2);
    const bool is_same = after != before || stage != 1 || at::equal(layers.all(), whole.parameters);
    DSFT_CHECK(is_close && is_same && optimizer.num_applied_updates() == 4, "the run that went on is another one");
  });
}

TEST_CASE("A rank that goes on reads its own parts of a sharded state, and no others", "[zero]") {
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  const int64_t stage = GENERATE(1, 3);
  std::vector<NamedState> state;
  for (const TrainedRank& rank : train_ranks(2, 1, type, options_of_stage(1)))
    state.insert(state.end(), rank.state.begin(), rank.state.end());
  std::atomic<int64_t> num_read = 0;
  comm::run_thread_ranks(3, [&](Communicator& communicator) {
    std::vector<zero::StoredState> counted = zero::stored_in_memory(state);
    for (zero::StoredState& item : counted)
      if (item.name.find('@') != std::string::npos)
        item.read = [&num_read, read = item.read](int64_t first, const at::Tensor& to) {
          num_read += to.numel();
          read(first, to);
        };
    const Layers layers(type);
    ShardedOptimizer optimizer(layers.parameters(), options_of_stage(stage), communicator);
    optimizer.restore(std::move(counted));
  });
  const int64_t kinds = type == at::kFloat ? 2 : 3;
  CHECK(num_read == kinds * (210 + 35 + 105));  // all ranks together: each element once
}

TEST_CASE("Where nothing is sharded one rank has the state to save, and the others copy nothing", "[zero]") {
  const std::vector<TrainedRank> ranks = train_ranks(2, 1, at::kBFloat16, options_of_stage(0));
  CHECK(ranks[0].state.size() == 12);
  CHECK(ranks[1].state.empty());
}

TEST_CASE("Parts of a state that do not make it up are told", "[zero]") {
  std::vector<NamedState> state;
  for (const TrainedRank& rank : train_ranks(2, 1, at::kFloat, options_of_stage(1)))
    state.insert(state.end(), rank.state.begin(), rank.state.end());
  auto communicator = comm::make_single_process_communicator();
  const Layers layers(at::kFloat);
  ShardedOptimizer optimizer(layers.parameters(), options_of_stage(0), *communicator);
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
