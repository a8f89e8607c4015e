// All stages on a network with what makes sharding hard: a tied weight, frozen parameters between trained ones, slices
// that do not come out even and ranks without one. The reference is torch's autograd and AdamW.
#include <torch/types.h>

#include <cmath>
#include <limits>

#include "catch_amalgamated.hpp"
#include "comm/thread_ranks.h"
#include "support/unwritten_is_nan.h"
#include "zero/parameter_shards.h"
#include "zero/sharded_optimizer.h"

using namespace dsft;
using comm::Communicator;
using zero::ShardedOptimizer;

namespace {

constexpr int64_t kSamplesOfStage = 12, kUpdatesOfStage = 8, kStageBlocks = 3;
constexpr double kStageRate = 0.02, kStageDecay = 0.1, kStageMaxNorm = 0.5;

/// Block 0: a weight that is read at both ends. Block 1: `first` and `bias`, a frozen `scale` between them. Block 2:
/// three elements, so that all slices but the first are empty.
struct TiedNetwork {
  at::Tensor tied, first, scale, bias, gain;

  explicit TiedNetwork(at::ScalarType type = at::kFloat) {
    const auto leaf = [&](const at::Tensor& values) { return values.to(type).clone().set_requires_grad(true); };
    tied = leaf(at::sin(at::arange(77, at::kFloat)).view({11, 7}));
    first = leaf(at::cos(at::arange(49, at::kFloat)).view({7, 7}));
    scale = at::linspace(0.5, 1.5, 7, at::kFloat).to(type);
    bias = leaf(at::full({7}, 0.1));
    gain = leaf(at::tensor({1.0, 0.7, 1.3}));
  }

  std::vector<zero::TrainableParameter> parameters() const {
    return {{"tied", tied, true, false, 0},
            {"first", first, true, false, 1},
            {"bias", bias, false, false, 1},
            {"gain", gain, false, false, 2}};
  }
  std::vector<at::Tensor> trained() const { return {tied, first, bias, gain}; }

  at::Tensor loss(int64_t sample) const {
    const auto wide = [](const at::Tensor& tensor) { return tensor.to(at::kFloat); };
    const at::Tensor x = wide(tied)[sample % 11] + wide(tied)[(sample * 3 + 1) % 11];
    const at::Tensor hidden = at::tanh(at::matmul(wide(first), x) * wide(scale) + wide(bias));
    const at::Tensor logits = at::matmul(wide(tied), hidden) * wide(gain).sum();
    return (logits - 0.1 * static_cast<double>(sample % 5)).square().sum();
  }
};

at::Tensor flattened(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> parts;
  for (const at::Tensor& tensor : tensors) parts.push_back(tensor.detach().to(at::kFloat).flatten());
  return at::cat(parts);
}

struct StageOutcome {
  at::Tensor parameters;
  std::vector<double> norms;
};

/// A rank's network with its parameters sharded as the stage says.
class StageRank {
 public:
  StageRank(TiedNetwork& network, const zero::OptimizerOptions& options, Communicator& communicator)
      : network_(network), communicator_(communicator), optimizer_(network.parameters(), options, communicator) {
    if (options.stage == 3 && communicator.size() > 1)
      shards_ = std::make_unique<zero::ParameterShards>(
          kStageBlocks, std::vector<zero::FrozenParameter>{{network.scale, 1}}, optimizer_.buffers(), communicator);
  }

  zero::StepResult update(int64_t number, double weight = 1) {
    const int64_t per_rank = kSamplesOfStage / communicator_.size();
    for (int64_t i = 0; i < per_rank; ++i) {
      const int64_t sample = number * kSamplesOfStage + communicator_.rank() * per_rank + i;
      for (int64_t block = 0; shards_ && block < kStageBlocks; ++block) shards_->begin_block(block, -1);
      optimizer_.gradients_begin({0, 1, 2, 3});
      optimizer_.backward(network_.loss(sample) * (weight / static_cast<double>(kSamplesOfStage)), i + 1 == per_rank);
      for (int64_t block = 0; shards_ && block < kStageBlocks; ++block) shards_->end_block(block, false);
    }
    return optimizer_.clip_and_step(at::full({1}, kStageRate, at::kDouble));
  }

  at::Tensor parameters() const {
    const zero::WholeParameters whole(shards_.get());
    return flattened(network_.trained());
  }
  at::Tensor frozen() const {
    const zero::WholeParameters whole(shards_.get());
    return network_.scale.clone();
  }
  const ShardedOptimizer& optimizer() const { return optimizer_; }

 private:
  TiedNetwork& network_;
  Communicator& communicator_;
  ShardedOptimizer optimizer_;
  std::unique_ptr<zero::ParameterShards> shards_;
};

zero::OptimizerOptions stage_options(int64_t stage) {
  return {.stage = stage, .adamw = {.weight_decay = kStageDecay}, .max_grad_norm = kStageMaxNorm};
}

std::vector<StageOutcome> train_stage(int num_ranks, int64_t stage) {
  std::vector<StageOutcome> outcomes(static_cast<size_t>(num_ranks));
  comm::run_thread_ranks(num_ranks, [&](Communicator& communicator) {
    TiedNetwork network;
    StageRank rank(network, stage_options(stage), communicator);
    StageOutcome& outcome = outcomes[static_cast<size_t>(communicator.rank())];
    for (int64_t number = 0; number < kUpdatesOfStage; ++number)
      outcome.norms.push_back(rank.update(number).grad_norm.item<double>());
    outcome.parameters = rank.parameters();
  });
  return outcomes;
}

StageOutcome train_with_torch() {
  const TiedNetwork network;
  std::vector<at::Tensor> parameters = network.trained(), exp_avg, exp_avg_sq, steps;
  for (const at::Tensor& tensor : parameters) {
    exp_avg.push_back(at::zeros_like(tensor));
    exp_avg_sq.push_back(at::zeros_like(tensor));
    steps.push_back(at::zeros({}, at::kFloat));
  }
  StageOutcome outcome;
  for (int64_t number = 0; number < kUpdatesOfStage; ++number) {
    at::Tensor loss = at::zeros({});
    for (int64_t i = 0; i < kSamplesOfStage; ++i) loss = loss + network.loss(number * kSamplesOfStage + i);
    (loss / static_cast<double>(kSamplesOfStage)).backward();
    const at::NoGradGuard no_grad;
    double squares = 0;
    for (const at::Tensor& tensor : parameters) squares += tensor.grad().to(at::kDouble).square().sum().item<double>();
    outcome.norms.push_back(std::sqrt(squares));
    const double factor = std::min(1.0, kStageMaxNorm / (outcome.norms.back() + 1e-6));
    for (size_t i = 0; i < parameters.size(); ++i) {
      std::vector<at::Tensor> p{parameters[i].detach()}, g{parameters[i].grad() * factor}, m{exp_avg[i]},
          v{exp_avg_sq[i]}, s{steps[i].add_(1)};
      at::_fused_adamw_(p, g, m, v, {}, s, kStageRate, 0.9, 0.999, i < 2 ? kStageDecay : 0.0, 1e-8, false, false);
      parameters[i].mutable_grad() = at::Tensor();
    }
  }
  outcome.parameters = flattened(parameters);
  return outcome;
}

}  // namespace

TEST_CASE("Tied and frozen parameters, uneven and empty slices train as torch does, clipped, at every stage",
          "[zero]") {
  const StageOutcome expected = train_with_torch();
  CHECK(*std::min_element(expected.norms.begin(), expected.norms.end()) > kStageMaxNorm);  // all are clipped
  const int64_t stage = GENERATE(0, 1, 2, 3);
  const int num_ranks = GENERATE(1, 2, 3, 4, 6);  // twelve micro-batches of an update, or two
  INFO(num_ranks << " ranks at stage " << stage);
  const dsft::test::UnwrittenIsNan unwritten;
  const std::vector<StageOutcome> outcomes = train_stage(num_ranks, stage);
  for (const StageOutcome& outcome : outcomes) {
    CHECK(at::equal(outcome.parameters, outcomes.front().parameters));
    CHECK((outcome.parameters - expected.parameters).abs().max().item<float>() < 1e-5);
    for (size_t i = 0; i < expected.norms.size(); ++i)
      CHECK(outcome.norms[i] == Catch::Approx(expected.norms[i]).epsilon(1e-5));
  }
}

TEST_CASE("Gradient norms of all stages agree within 1e-6", "[zero]") {
  const int num_ranks = GENERATE(2, 4);
  const std::vector<double> expected = train_stage(num_ranks, 0).front().norms;
  for (const int64_t stage : {1, 2, 3}) {
    INFO("stage " << stage << " on " << num_ranks << " ranks");
    const std::vector<double> norms = train_stage(num_ranks, stage).front().norms;
    for (size_t i = 0; i < expected.size(); ++i) CHECK(norms[i] == Catch::Approx(expected[i]).epsilon(1e-6));
  }
}

TEST_CASE("fp16 gradients that overflow on one rank alone skip the update on all, at every stage", "[zero]") {
  const int64_t stage = GENERATE(0, 1, 2, 3);
  INFO("stage " << stage);
  std::vector<std::string> faults(3);
  comm::run_thread_ranks(3, [&](Communicator& communicator) {
    std::string& fault = faults[static_cast<size_t>(communicator.rank())];
    const auto expect = [&](bool is_so, const char* what) { fault += is_so ? "" : what + std::string("; "); };
    TiedNetwork network(at::kHalf);
    zero::OptimizerOptions options = stage_options(stage);
    options.loss_scaler = optim::LossScalerOptions{.initial_scale = 256, .hysteresis = 1};
    StageRank rank(network, options, communicator);
    const at::Tensor frozen = rank.frozen();
    expect(rank.update(0).is_applied.item<bool>(), "the first update is skipped");
    const at::Tensor before = rank.parameters();
    const double infinity = std::numeric_limits<double>::infinity();
    expect(!rank.update(1, communicator.rank() == 2 ? infinity : 1.0).is_applied.item<bool>(),
           "the update that overflows is applied");
    expect(at::equal(rank.parameters(), before), "a skipped update changed parameters");
    expect(rank.optimizer().loss_scaler()->scale() == 128, "the scale is not halved");
    expect(rank.optimizer().num_applied_updates() == 1, "the skipped update is counted");
    expect(rank.update(1).is_applied.item<bool>(), "the next update is skipped");
    expect(!at::equal(rank.parameters(), before), "the next update changed nothing");
    expect(at::equal(rank.frozen(), frozen), "a frozen parameter changed");
  });
  CHECK(faults == std::vector<std::string>(3));
}
