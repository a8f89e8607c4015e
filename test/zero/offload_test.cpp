// What is offloaded changes where things lie, and no number.
#include <torch/types.h>

#include <cmath>
#include <limits>

#include "catch_amalgamated.hpp"
#include "comm/single_process_communicator.h"
#include "comm/thread_ranks.h"
#include "device/device.h"
#include "support/require_error.h"
#include "zero/trained_layers.h"

using namespace dsft;
using comm::Communicator;
using test::Layers;
using test::TrainedRank;
using zero::HostShare;
using zero::OptimizerOptions;

namespace {

enum class Offloads { kState, kParameters, kBoth };

// Each rank of the tests has several micro-batches.
OptimizerOptions offloading(int64_t stage, Offloads offloads, bool overlaps = true,
                            device::HostPages pages = device::HostPages::kPageable) {
  OptimizerOptions options = test::options_of_stage(stage, overlaps);
  if (offloads != Offloads::kParameters) options.offloads_state = HostShare{pages};
  if (offloads != Offloads::kState) options.offloads_parameters = HostShare{pages};
  options.accumulates = true;
  return options;
}

struct StageOffload {
  int64_t stage;
  Offloads offloads;
};

std::vector<StageOffload> all_offloads() {
  return {{1, Offloads::kState},
          {2, Offloads::kState},
          {3, Offloads::kState},
          {3, Offloads::kParameters},
          {3, Offloads::kBoth}};
}

double largest_gap(const TrainedRank& a, const TrainedRank& b) {
  return (a.parameters - b.parameters).abs().max().item<double>();
}

// The largest relative one of the first `count` norms.
double gap_of_norms(const TrainedRank& a, const TrainedRank& b, size_t count) {
  double largest = 0;
  for (size_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(a.norms[i] / b.norms[i] - 1));
  return largest;
}

// What bf16 gradients and weights may differ by where they are rounded elsewhere: the first norm by the rounding of
// gradients alone.
void require_close(const TrainedRank& actual, const TrainedRank& expected, at::ScalarType type) {
  if (type == at::kFloat) {
    CHECK(largest_gap(actual, expected) < 4e-6);
    CHECK(gap_of_norms(actual, expected, expected.norms.size()) < 1e-6);
  } else {
    CHECK(largest_gap(actual, expected) < 2e-2);
    CHECK(gap_of_norms(actual, expected, 1) < 1.0 / 512);
  }
}

}  // namespace

TEST_CASE("What is offloaded is trained to the same bits in fp32", "[zero]") {
  const auto [stage, offloads] = GENERATE(from_range(all_offloads()));
  const int num_ranks = GENERATE(2, 3);
  const bool overlaps = GENERATE(true, false);
  INFO("stage " << stage << ", offload " << static_cast<int>(offloads) << ", " << num_ranks << " ranks");
  const auto expected = test::train_ranks(num_ranks, 8, at::kFloat, test::options_of_stage(stage, overlaps));
  const auto actual = test::train_ranks(num_ranks, 8, at::kFloat, offloading(stage, offloads, overlaps));
  for (size_t rank = 0; rank < actual.size(); ++rank) {
    CHECK(at::equal(actual[rank].parameters, expected[rank].parameters));
    CHECK(actual[rank].norms == expected[rank].norms);
    REQUIRE(actual[rank].state.size() == expected[rank].state.size());
    for (size_t i = 0; i < actual[rank].state.size(); ++i) {
      CHECK(actual[rank].state[i].name == expected[rank].state[i].name);
      CHECK(at::equal(actual[rank].state[i].tensor, expected[rank].state[i].tensor));
    }
  }
}

TEST_CASE("One rank offloads by blocks too, and trains as stage 0 does", "[zero]") {
  const auto [stage, offloads] = GENERATE(from_range(all_offloads()));
  const auto type = GENERATE(at::kFloat, at::kBFloat16, at::kHalf);
  INFO("stage " << stage << ", offload " << static_cast<int>(offloads) << ", " << c10::toString(type));
  const TrainedRank expected = test::train_ranks(1, 8, type, test::options_of_stage(0)).front();
  const TrainedRank actual = test::train_ranks(1, 8, type, offloading(stage, offloads)).front();
  require_close(actual, expected, type);  // the norm is summed by blocks
  REQUIRE(actual.state.size() == expected.state.size());
  for (size_t i = 0; i < actual.state.size(); ++i) {
    CHECK(actual.state[i].name == expected.state[i].name);
    CHECK(actual.state[i].tensor.sizes() == expected.state[i].tensor.sizes());
  }
}

TEST_CASE("Weights of 16 bits are trained as they are on the device, but for bf16 gradients on their way", "[zero]") {
  const auto [stage, offloads] = GENERATE(from_range(all_offloads()));
  const auto type = GENERATE(at::kBFloat16, at::kHalf);
  INFO("stage " << stage << ", offload " << static_cast<int>(offloads) << ", " << c10::toString(type));
  const auto expected = test::train_ranks(2, 8, type, test::options_of_stage(stage));
  const auto actual = test::train_ranks(2, 8, type, offloading(stage, offloads));
  for (const TrainedRank& rank : actual) {
    require_close(rank, expected.front(), type);
    const bool is_exact = type == at::kHalf || offloads == Offloads::kParameters;
    if (is_exact) CHECK(at::equal(rank.parameters, expected.front().parameters));
    CHECK(at::equal(rank.parameters, actual.front().parameters));
  }
}

TEST_CASE("A run goes on with and without offload, at any number of ranks", "[zero]") {
  const auto [stage, offloads] = GENERATE(from_range(all_offloads()));
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  const int before = GENERATE(1, 2), after = GENERATE(1, 3);
  const bool is_offloaded_first = GENERATE(true, false);
  INFO("stage " << stage << ", offload " << static_cast<int>(offloads) << ", " << before << " ranks, then " << after
                << ", " << c10::toString(type));
  const OptimizerOptions offloaded = offloading(stage, offloads), plain = test::options_of_stage(stage);
  const auto first = test::train_ranks(before, 2, type, is_offloaded_first ? offloaded : plain);
  TrainedRank reached = first.front();
  for (size_t rank = 1; rank < first.size(); ++rank)
    reached.state.insert(reached.state.end(), first[rank].state.begin(), first[rank].state.end());
  const TrainedRank whole = test::train_ranks(before, 4, type, is_offloaded_first ? offloaded : plain).front();
  std::vector<TrainedRank> last(static_cast<size_t>(after));
  comm::run_thread_ranks(after, [&](Communicator& communicator) {
    last[static_cast<size_t>(communicator.rank())] =
        test::train_one(communicator, 2, 4, type, is_offloaded_first ? plain : offloaded, &reached);
  });
  const double bound = type == at::kFloat ? 4e-6 : 2e-2;
  for (const TrainedRank& rank : last) CHECK((rank.parameters - whole.parameters).abs().max().item<double>() < bound);
}

TEST_CASE("A gradient that is not finite skips an offloaded update on all ranks, and fp16 scales down", "[zero]") {
  const auto [stage, offloads] = GENERATE(from_range(all_offloads()));
  INFO("stage " << stage << ", offload " << static_cast<int>(offloads));
  OptimizerOptions options = offloading(stage, offloads);
  options.loss_scaler = optim::LossScalerOptions{.initial_scale = 1024, .hysteresis = 1};
  comm::run_thread_ranks(2, [&, at_stage = stage](Communicator& communicator) {
    const Layers layers(at::kHalf);
    zero::ShardedOptimizer optimizer(layers.parameters(), options, communicator);
    std::optional<zero::ParameterShards> shards;
    if (at_stage == 3) shards.emplace(3, std::vector<zero::FrozenParameter>(), optimizer.buffers(), communicator);
    const auto values = [&] {
      const zero::WholeParameters whole(shards ? &*shards : nullptr);
      return layers.all();
    };
    const at::Tensor before = values();
    {
      const zero::WholeParameters whole(shards ? &*shards : nullptr);
      const double factor = communicator.rank() == 1 ? std::numeric_limits<double>::infinity() : 1.0;
      optimizer.backward(layers.loss(communicator.rank()), false);
      optimizer.backward(layers.loss(communicator.rank()) * factor, true);
    }
    const zero::StepResult skipped = optimizer.clip_and_step(test::kRisingRates);
    DSFT_CHECK(!skipped.is_applied.item<bool>() && optimizer.num_applied_updates() == 0, "the update is applied");
    DSFT_CHECK(at::equal(values(), before), "a skipped update changed parameters");
    DSFT_CHECK(optimizer.loss_scaler()->scale() == 512, "the scale is ", optimizer.loss_scaler()->scale());
    const double norm = test::update_of(layers, optimizer, communicator, 0, shards ? &*shards : nullptr);
    DSFT_CHECK(std::isfinite(norm) && optimizer.num_applied_updates() == 1 && !at::equal(values(), before),
               "no update after a skipped one");
  });
}

TEST_CASE("What was rehearsed leaves nothing behind on the host", "[zero]") {
  const int64_t stage = GENERATE(1, 2);
  const auto communicator = comm::make_single_process_communicator();
  const Layers rehearsed(at::kFloat), plain(at::kFloat);
  zero::ShardedOptimizer first(rehearsed.parameters(), offloading(stage, Offloads::kState), *communicator),
      second(plain.parameters(), offloading(stage, Offloads::kState), *communicator);
  first.rehearse_backward(rehearsed.loss(5));
  first.discard_gradients();
  first.backward(rehearsed.loss(6), false);
  first.discard_gradients();
  const double norm = test::update_of(rehearsed, first, *communicator, 0);
  CHECK(norm == test::update_of(plain, second, *communicator, 0));
  CHECK(at::equal(rehearsed.all(), plain.all()));
}

TEST_CASE("With an offloaded optimizer the device has no state but that of adapters", "[zero]") {
  const auto communicator = comm::make_single_process_communicator();
  const Layers layers(at::kBFloat16);
  const auto options = offloading(2, Offloads::kState);
  const zero::FlatParameters flat(layers.parameters(), {.has_gradients = true, .is_state_elsewhere = true});
  CHECK(flat.gradient.numel() == 80);  // the adapter's 70 in whole 16 elements
  CHECK(flat.exp_avg.numel() == 80);
  CHECK_FALSE(flat.master.defined());
  zero::ShardedOptimizer optimizer(layers.parameters(), options, *communicator);
  optimizer.backward(layers.loss(0), true);
  CHECK_FALSE(layers.first.grad().defined());
  CHECK_FALSE(layers.second.grad().defined());
  CHECK(layers.adapter.grad().defined());
}

TEST_CASE("Nothing is offloaded where the stage has nothing to offload", "[zero]") {
  const auto communicator = comm::make_single_process_communicator();
  const Layers layers(at::kFloat);
  const auto made = [&](const OptimizerOptions& options) {
    zero::ShardedOptimizer(layers.parameters(), options, *communicator);
  };
  test::require_error(ErrorKind::kInternal, {"nothing is offloaded at stage 0"},
                      [&] { made(offloading(0, Offloads::kState)); });
  test::require_error(ErrorKind::kInternal, {"nothing is offloaded at stage 2"},
                      [&] { made(offloading(2, Offloads::kBoth)); });
  zero::ShardedOptimizer adapters({{"adapter", layers.adapter, true, true, 0}}, offloading(2, Offloads::kState),
                                  *communicator);
  CHECK_FALSE(adapters.is_sharded());
}

TEST_CASE("Ranks whose host has no room for what they offload are told before any takes memory", "[zero]") {
  const auto communicator = comm::make_single_process_communicator();
  const auto offloads = GENERATE(Offloads::kState, Offloads::kParameters, Offloads::kBoth);
  OptimizerOptions options = offloading(3, offloads);
  const int64_t ranks = int64_t{1} << 40;  // of which no host has as many
  for (auto* share : {&options.offloads_state, &options.offloads_parameters})
    if (*share) (*share)->num_ranks = ranks;
  const Layers layers(at::kBFloat16);
  const char* const what = offloads == Offloads::kState  ? "the offloaded optimizer needs"
                           : offloads == Offloads::kBoth ? "the offloaded optimizer with the offloaded parameters needs"
                                                         : "the offloaded parameters needs";
  const char* const remedy =
      offloads == Offloads::kParameters ? "zero.offload_param.device: none" : "zero.offload_optimizer.device: none";
  test::require_error(ErrorKind::kDevice, {what, "of host memory", "are free by", remedy},
                      [&] { zero::ShardedOptimizer(layers.parameters(), options, *communicator); });
  if (offloads == Offloads::kState) return;
  const at::Tensor frozen = at::ones({64});
  test::require_error(ErrorKind::kDevice, {"the offloaded parameters needs", "zero.offload_param.device: none"}, [&] {
    zero::ParameterShards(1, {{frozen, 0}}, {}, *communicator, HostShare{device::HostPages::kPageable, ranks});
  });
}

TEST_CASE("Room for what is frozen is asked for together with that for what is trained", "[zero]") {
  const auto communicator = comm::make_single_process_communicator();
  const Layers layers(at::kFloat);
  const bool has_adapters_alone = GENERATE(true, false);
  OptimizerOptions options = offloading(3, has_adapters_alone ? Offloads::kParameters : Offloads::kBoth);
  options.frozen_bytes_on_host = int64_t{1} << 50;
  const auto parameters = has_adapters_alone
                              ? std::vector<zero::TrainableParameter>{{"adapter", layers.adapter, true, true, 0}}
                              : layers.parameters();
  const char* const what = has_adapters_alone ? "the offloaded parameters needs 1048576.0 GiB"
                                              : "the offloaded optimizer with the offloaded parameters needs 1048576.0";
  test::require_error(ErrorKind::kDevice, {what}, [&] { zero::ShardedOptimizer(parameters, options, *communicator); });
}

TEST_CASE("Frozen parameters that lie in host memory come whole, block by block, also to one rank", "[zero]") {
  const int num_ranks = GENERATE(1, 2);
  comm::run_thread_ranks(num_ranks, [&](Communicator& communicator) {
    std::vector<at::Tensor> parameters;
    std::vector<zero::FrozenParameter> frozen;
    for (int64_t block = 0; block < 3; ++block) {
      parameters.push_back(at::full({37}, static_cast<double>(block)).to(at::kBFloat16));
      frozen.push_back({parameters.back(), block});
    }
    zero::ParameterShards shards(3, frozen, {}, communicator, HostShare{device::HostPages::kPageable});
    for (int64_t block = 0; block < 3; ++block) {
      shards.begin_block(block, block == 2 ? -1 : block + 1);
      const at::Tensor& parameter = parameters[static_cast<size_t>(block)];
      DSFT_CHECK(at::equal(parameter, at::full({37}, static_cast<double>(block)).to(at::kBFloat16)),
                 "a block's values");
      shards.end_block(block, false);
      DSFT_CHECK(parameter.storage().unsafeGetStorageImpl()->data() == nullptr, "a block stays");
    }
  });
}

TEST_CASE("On a GPU what is offloaded is trained as on the CPU", "[zero][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  const auto [stage, offloads] = GENERATE(from_range(all_offloads()));
  const auto type = GENERATE(at::kFloat, at::kBFloat16, at::kHalf);
  const auto pages = GENERATE(device::HostPages::kPinned, device::HostPages::kPageable);
  const at::Device gpu(at::kCUDA, 0);
  INFO("stage " << stage << ", offload " << static_cast<int>(offloads) << ", " << c10::toString(type));
  const auto communicator = comm::make_single_process_communicator();
  const auto run = [&](const OptimizerOptions& options, at::Device device) {
    return test::train_one(*communicator, 0, 8, type, options, nullptr, device);
  };
  const double bound = type == at::kFloat ? 1e-4 : 5e-2;  // a few roundings of 16-bit weights
  const auto options = offloading(stage, offloads, true, pages);
  const TrainedRank actual = run(options, gpu);
  for (const at::Device& device : {gpu, at::Device(at::kCPU)}) {
    const TrainedRank expected = run(test::options_of_stage(0), device);
    CHECK(largest_gap(actual, expected) < bound);
    CHECK(gap_of_norms(actual, expected, 1) < (type == at::kFloat ? 1e-5 : 1.0 / 512));
  }
  // it goes on from what it has saved, and so does a run without offload
  TrainedRank reached = test::train_one(*communicator, 0, 3, type, options, nullptr, gpu);
  for (const OptimizerOptions& next : {options, test::options_of_stage(0)}) {
    const TrainedRank last = test::train_one(*communicator, 3, 8, type, next, &reached, gpu);
    CHECK((last.parameters - actual.parameters).abs().max().item<double>() < bound);
  }
}

TEST_CASE("On a GPU a slice that the device has updated has come to the host before it is read there", "[zero][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  const at::Device gpu(at::kCUDA, 0);
  const auto communicator = comm::make_single_process_communicator();
  const Layers layers(at::kFloat, gpu);
  const OptimizerOptions options = offloading(3, Offloads::kParameters, true, device::HostPages::kPinned);
  zero::ShardedOptimizer optimizer(layers.parameters(), options, *communicator);
  zero::ParameterShards shards(3, {}, optimizer.buffers(), *communicator, options.offloads_parameters);
  const auto own_values = [&] { return shards.buffer_of(layers.first)->own_part(layers.first).values; };
  const at::Tensor before = own_values().clone(), learning_rates = at::full({1}, 0.1, at::kDouble).to(gpu);
  {
    const zero::WholeParameters whole(&shards);
    optimizer.backward(layers.loss(0), /*is_last_micro_batch=*/true);
  }
  // much to do before the update
  const at::Tensor large = at::randn({8192, 8192}, at::TensorOptions(gpu));
  for (int i = 0; i < 40; ++i) at::mm(large, large);
  optimizer.clip_and_step(learning_rates);
  const at::Tensor read = own_values().clone();
  device::synchronize(gpu);
  CHECK(at::equal(read, own_values()));
  CHECK_FALSE(at::equal(read, before));
}
