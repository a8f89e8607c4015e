#include "rl/pooled_round.h"

#include <cmath>
#include <mutex>

#include "catch_amalgamated.hpp"
#include "comm/thread_ranks.h"

using namespace dsft;

TEST_CASE("Pooled answers of ranks are counted once, whoever gave them", "[rl]") {
  // three prompts: a right answer, one that nothing judges and that nothing can be learned from, and half a right one
  const std::vector<rl::PooledAnswer> answers = {
      {.prompt = 0, .score = 1, .loss = 3, .num_tokens = 2, .gradient = {1, -1}},
      {.prompt = 1},
      {.prompt = 2, .score = 0.5, .loss = 6, .num_tokens = 1, .gradient = {-4, 4}}};
  std::mutex mutex;
  std::vector<std::map<std::string, double>> metrics;
  std::vector<std::vector<double>> gradients;
  comm::run_thread_ranks(3, [&](comm::Communicator& communicator) {
    std::vector<rl::PooledAnswer> own;  // the second rank has none
    if (communicator.rank() == 0) own = {answers[2], answers[1]};
    if (communicator.rank() == 2) own = {answers[0]};
    const rl::PooledRound round(own, /*num_agents=*/2, communicator);
    const std::lock_guard lock(mutex);
    metrics.push_back(round.metrics(/*are_learned=*/true));
    gradients.push_back(round.gradient());
  });
  REQUIRE(metrics.size() == 3);
  for (size_t rank = 0; rank < metrics.size(); ++rank) {
    CHECK(metrics[rank] == std::map<std::string, double>{{"ensemble/accuracy", 0.5}, {"ensemble/loss", 3}});
    CHECK(gradients[rank] == std::vector<double>{-1, 1});
  }
}

TEST_CASE("Pooled answers that nothing judges have no accuracy, and teach nothing", "[rl]") {
  comm::run_thread_ranks(2, [&](comm::Communicator& communicator) {
    std::vector<rl::PooledAnswer> own;
    if (communicator.rank() == 0) own = {{.prompt = 0}};
    const rl::PooledRound round(own, 2, communicator);
    if (communicator.rank() != 0) return;  // assertions are of one thread
    CHECK(std::isnan(round.metrics(true).at("ensemble/accuracy")));
    CHECK(std::isnan(round.metrics(true).at("ensemble/loss")));
    CHECK_FALSE(round.metrics(false).contains("ensemble/loss"));
    CHECK(round.gradient().empty());
  });
}
