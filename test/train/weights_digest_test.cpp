#include "train/weights_digest.h"

#include <cstring>
#include <set>

#include "catch_amalgamated.hpp"
#include "comm/thread_ranks.h"
#include "lora/adapters.h"
#include "support/tiny_model.h"
#include "train/sharding_hooks.h"

using namespace dsft;

namespace {

std::shared_ptr<model::CausalLm> trained_model(at::ScalarType type) {
  auto lm = test::load_tiny_model("qwen3");
  for (at::Tensor& parameter : lm->parameters()) {
    parameter.set_data(parameter.to(type));
    parameter.requires_grad_(true);
  }
  return lm;
}

void flip(at::Tensor& tensor, int64_t bit) {
  auto* bytes = static_cast<uint8_t*>(tensor.mutable_data_ptr());
  bytes[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
}

}  // namespace

TEST_CASE("A digest of the weights tells every bit that is flipped, and values that change places", "[train]") {
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  const auto lm = trained_model(type);
  std::set<uint64_t> digests = {train::digest_trained_weights(*lm, nullptr)};
  size_t num_changes = 0;
  for (at::Tensor& parameter : lm->parameters()) {
    const int64_t num_bits = static_cast<int64_t>(parameter.nbytes()) * 8;
    for (const int64_t bit : {int64_t{0}, int64_t{7}, num_bits / 2 + 3, num_bits - 1}) {
      flip(parameter, bit);
      digests.insert(train::digest_trained_weights(*lm, nullptr));
      flip(parameter, bit);
      ++num_changes;
    }
  }
  CHECK(digests.size() == 1 + num_changes);
  const at::NoGradGuard no_grad;
  at::Tensor values = lm->parameters()[0].view(-1).narrow(0, 0, 2);
  REQUIRE(values[0].item<float>() != values[1].item<float>());
  values.copy_(values.flip(0).clone());
  CHECK(digests.insert(train::digest_trained_weights(*lm, nullptr)).second);
}

TEST_CASE("Ranks of stage 3 have the digest of the whole weights, and a rank that differs is found", "[train]") {
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  const uint64_t expected = train::digest_trained_weights(*trained_model(type), nullptr);
  std::vector<std::vector<uint64_t>> sharded(3), differing(3);
  comm::run_thread_ranks(3, [&](comm::Communicator& communicator) {
    const auto rank = static_cast<size_t>(communicator.rank());
    const auto lm = trained_model(type);
    const auto other = trained_model(type);
    if (rank == 1) flip(other->parameters().back(), 5);
    differing[rank] = train::gather_digests(communicator, train::digest_trained_weights(*other, nullptr));
    std::vector<zero::TrainableParameter> parameters;
    for (const auto& item : lora::trainable_tensors(*lm))
      parameters.push_back({item.name, item.tensor, true, false, lm->block_of(item.name)});
    zero::OptimizerOptions options;
    options.stage = 3;
    zero::ShardedOptimizer optimizer(parameters, options, communicator);
    const auto shards = train::shard_parameters(*lm, optimizer, communicator);
    sharded[rank] = train::gather_digests(communicator, train::digest_trained_weights(*lm, shards.get()));
  });
  for (const auto& of_ranks : sharded) CHECK(of_ranks == std::vector<uint64_t>(3, expected));
  for (const auto& of_ranks : differing) {
    CHECK(of_ranks[0] == expected);
    CHECK(of_ranks[1] != expected);
    CHECK(of_ranks[2] == expected);
  }
}
