// Which tokens the entropy mask keeps, and how the weight of the entropy adapts.
#include <limits>

#include "catch_amalgamated.hpp"
#include "comm/single_process_communicator.h"
#include "comm/thread_ranks.h"
#include "rl/entropy_coefficient.h"
#include "rl/entropy_mask.h"
#include "support/tiny_model.h"

using namespace dsft;

namespace {

Batch batch_of(const std::vector<int64_t>& lengths, bool leaves_out_first) {
  Batch batch = make_batch(test::random_documents(lengths, 97, 4), 0);
  std::vector<PolicyRow> rows(lengths.size());
  rows[0].is_left_out = leaves_out_first;
  set_policy_rows(batch, rows);
  return batch;
}

}  // namespace

TEST_CASE("Tokens above torch's quantile over all ranks' counted tokens are kept", "[rl]") {
  torch::manual_seed(6);
  std::vector<Batch> batches = {batch_of({9, 12}, true), batch_of({30}, false), batch_of({6, 7, 20}, false)};
  std::vector<at::Tensor> entropies, counted;
  for (const Batch& batch : batches) {
    entropies.push_back(torch::rand({batch.supervised.numel()}) * 3);
    counted.push_back(entropies.back().masked_select(batch.weights.gt(0)));
  }
  const double share = GENERATE(0.0, 0.2, 0.5, 0.77, 1.0);
  const at::Tensor threshold = torch::quantile(torch::cat(counted), 1 - share);
  const auto check = [&](const Batch& batch, const at::Tensor& values) {
    const at::Tensor expected = values.ge(threshold).logical_and(batch.weights.gt(0)).to(at::kFloat);
    return torch::equal(batch.policy->entropy_mask, expected);
  };
  std::vector<Batch> together = batches;
  rl::mask_low_entropy(together, entropies, share, *comm::make_single_process_communicator());
  for (size_t b = 0; b < batches.size(); ++b) CHECK(check(together[b], entropies[b]));
  std::vector<int> are_same(2);
  comm::run_thread_ranks(2, [&](comm::Communicator& communicator) {
    const bool is_first = communicator.rank() == 0;
    std::vector<Batch> own = is_first ? std::vector<Batch>{batches[0], batches[1]} : std::vector<Batch>{batches[2]};
    const std::vector<at::Tensor> of_own =
        is_first ? std::vector<at::Tensor>{entropies[0], entropies[1]} : std::vector<at::Tensor>{entropies[2]};
    rl::mask_low_entropy(own, of_own, share, communicator);
    bool is_same = true;
    for (size_t b = 0; b < own.size(); ++b) is_same = is_same && check(own[b], of_own[b]);
    are_same[static_cast<size_t>(communicator.rank())] = is_same;
  });
  CHECK(are_same == std::vector<int>{1, 1});
}

TEST_CASE("Without a counted token nothing is kept", "[rl]") {
  std::vector<Batch> batches = {batch_of({9}, true)};
  rl::mask_low_entropy(batches, {torch::rand({batches[0].supervised.numel()})}, 0.5,
                       *comm::make_single_process_communicator());
  CHECK(batches[0].policy->entropy_mask.eq(0).all().item<bool>());
}

TEST_CASE("An entropy that is NaN on any rank leaves no token, as torch's quantile is NaN then", "[rl]") {
  torch::manual_seed(6);
  const std::vector<Batch> batches = {batch_of({9}, false), batch_of({30}, false)};
  std::vector<at::Tensor> entropies;
  for (const Batch& batch : batches) entropies.push_back(torch::rand({batch.supervised.numel()}));
  entropies[1][3] = std::numeric_limits<float>::quiet_NaN();
  REQUIRE(torch::quantile(torch::cat(entropies), 0.5).isnan().item<bool>());
  std::vector<int> are_empty(2);
  comm::run_thread_ranks(2, [&](comm::Communicator& communicator) {
    const auto rank = static_cast<size_t>(communicator.rank());
    std::vector<Batch> own = {batches[rank]};
    rl::mask_low_entropy(own, {entropies[rank]}, 0.5, communicator);
    are_empty[rank] = own[0].policy->entropy_mask.eq(0).all().item<bool>();
  });
  CHECK(are_empty == std::vector<int>{1, 1});
}

TEST_CASE("An adaptive entropy weight follows the entropy as TRL's does", "[rl]") {
  rl::GrpoConfig config;
  config.entropy_coef = 0.01;
  CHECK(rl::EntropyCoefficient(config).value() == 0.01);
  config.use_adaptive_entropy = true;
  config.entropy_target = 1.0;
  config.entropy_coef_max = 0.016;
  rl::EntropyCoefficient coefficient(config);
  CHECK(coefficient.value() == 0);  // no entropy is known yet
  coefficient.update(0.9);
  CHECK(std::abs(coefficient.value() - 0.015) < 1e-12);
  coefficient.update(1.0);
  CHECK(coefficient.value() == 0.016);  // the largest
  coefficient.update(1.1);
  CHECK(coefficient.value() == 0);  // above the target: not in force
  rl::EntropyCoefficient again(config);
  again.restore(coefficient.state());
  again.update(0.5);
  CHECK(std::abs(again.value() - 0.016) < 1e-12);  // 0.011 + 0.005
  for (int i = 0; i < 9; ++i) again.update(2.0);
  CHECK(again.state().coefficient == 0);  // the least
}
