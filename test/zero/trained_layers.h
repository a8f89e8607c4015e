// Layers that ranks on threads train, whatever the stage and whatever is offloaded.
#pragma once

#include <torch/types.h>

#include <optional>
#include <vector>

#include "base/error.h"
#include "comm/thread_ranks.h"
#include "zero/parameter_shards.h"
#include "zero/sharded_optimizer.h"

namespace dsft::test {

inline constexpr int64_t kSamplesOfUpdate = 12;
inline const at::Tensor kRisingRates = at::arange(1, 9, at::kDouble) * 0.02;

/// Two layers in a block each, and an adapter that stays whole.
struct Layers {
  at::Device device;
  at::Tensor first, bias, adapter, second;

  explicit Layers(at::ScalarType type, at::Device on = at::kCPU) : device(on) {
    const auto leaf = [on](const at::Tensor& values) { return values.clone().to(on).set_requires_grad(true); };
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
    const at::Tensor x = at::cos(at::arange(6, at::kFloat) * static_cast<double>(sample + 1)).to(device);
    const at::Tensor hidden = at::tanh(at::matmul(first.to(at::kFloat), x) + bias.to(at::kFloat));
    return (at::matmul(second.to(at::kFloat), hidden) - 1).square().sum() +
           (at::matmul(adapter, hidden) - 0.5).square().sum();
  }

  at::Tensor all() const {
    std::vector<at::Tensor> flat;
    for (const at::Tensor& tensor : {first, bias, adapter, second})
      flat.push_back(tensor.detach().to(at::kCPU, at::kFloat).flatten());
    return at::cat(flat);
  }
  void take(const Layers& other) {
    const at::NoGradGuard no_grad;
    first.copy_(other.first), bias.copy_(other.bias), adapter.copy_(other.adapter), second.copy_(other.second);
  }
};

inline zero::OptimizerOptions options_of_stage(int64_t stage, bool overlaps = true) {
  zero::OptimizerOptions options{.stage = stage, .adamw = {.weight_decay = 0.1}, .max_grad_norm = 0.5};
  options.overlaps_backward = overlaps;
  return options;
}

/// Of the samples of update `number` this rank's, one a micro-batch. `shards`: whole while a pass runs; null: there are
/// none. Gives the norm.
inline double update_of(const Layers& layers, zero::ShardedOptimizer& optimizer, comm::Communicator& communicator,
                        int64_t number, zero::ParameterShards* shards = nullptr) {
  const int64_t per_rank = kSamplesOfUpdate / communicator.size();
  for (int64_t i = 0; i < per_rank; ++i) {
    const int64_t sample = number * kSamplesOfUpdate + communicator.rank() * per_rank + i;
    const zero::WholeParameters whole(shards);
    optimizer.backward(layers.loss(sample) / static_cast<double>(kSamplesOfUpdate), i + 1 == per_rank);
  }
  return optimizer.clip_and_step(kRisingRates.to(layers.device)).grad_norm.item<double>();
}

struct TrainedRank {
  at::Tensor parameters;
  std::vector<double> norms;
  std::vector<zero::NamedState> state;  // of this rank
};

/// Updates [first, last) of one rank. `from`: where it goes on, with the state of all ranks; null: it begins.
inline TrainedRank train_one(comm::Communicator& communicator, int first, int last, at::ScalarType type,
                             const zero::OptimizerOptions& options, const TrainedRank* from = nullptr,
                             at::Device device = at::kCPU) {
  const Layers layers(type, device);
  if (from) {
    const at::NoGradGuard no_grad;
    int64_t begin = 0;
    for (at::Tensor tensor : {layers.first, layers.bias, layers.adapter, layers.second}) {
      tensor.copy_(from->parameters.narrow(0, begin, tensor.numel()).view(tensor.sizes()));
      begin += tensor.numel();
    }
  }
  zero::ShardedOptimizer optimizer(layers.parameters(), options, communicator);
  std::optional<zero::ParameterShards> shards;
  if (options.stage == 3)
    shards.emplace(3, std::vector<zero::FrozenParameter>(), optimizer.buffers(), communicator,
                   options.offloads_parameters);
  zero::ParameterShards* const gathered = shards ? &*shards : nullptr;
  if (from) optimizer.restore(from->state);
  // the second layer's gradient is final when the first one's arrives
  layers.first.register_hook([&](at::Tensor) {
    optimizer.gradients_final({optimizer.index_of(layers.second)});
    optimizer.gradients_begin({optimizer.index_of(layers.first)});
  });
  TrainedRank result;
  for (int number = first; number < last; ++number)
    result.norms.push_back(update_of(layers, optimizer, communicator, number, gathered));
  const zero::WholeParameters whole(gathered);
  result.parameters = layers.all();
  for (const zero::NamedState& item : optimizer.state()) result.state.push_back({item.name, item.tensor.clone()});
  return result;
}

/// `num_updates` updates on each of `num_ranks` threads; by rank.
inline std::vector<TrainedRank> train_ranks(int num_ranks, int num_updates, at::ScalarType type,
                                            const zero::OptimizerOptions& options) {
  std::vector<TrainedRank> results(static_cast<size_t>(num_ranks));
  comm::run_thread_ranks(num_ranks, [&](comm::Communicator& communicator) {
    results[static_cast<size_t>(communicator.rank())] = train_one(communicator, 0, num_updates, type, options);
  });
  return results;
}

}  // namespace dsft::test
