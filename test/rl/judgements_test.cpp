#include "rl/judgements.h"

#include <mutex>

#include "catch_amalgamated.hpp"
#include "comm/thread_ranks.h"

using namespace dsft;

TEST_CASE("Judgements of ranks with different numbers of them are gathered on each, also from one that has none",
          "[rl]") {
  std::mutex mutex;
  std::vector<std::vector<rl::Judgement>> gathered;
  comm::run_thread_ranks(3, [&](comm::Communicator& communicator) {
    std::vector<rl::Judgement> own;
    for (int64_t i = 0; i < 2 - communicator.rank(); ++i)
      own.push_back({.group = communicator.rank(),
                     .generation = i,
                     .num_tokens = 7 + i,
                     .is_truncated = i == 1,
                     .has_failed = communicator.rank() == 1,
                     .rewards = {0.25, {}}});
    auto all = rl::gather_judgements(own, 2, communicator);
    const std::lock_guard lock(mutex);
    gathered.push_back(std::move(all));
  });
  REQUIRE(gathered.size() == 3);
  for (const auto& all : gathered) {
    REQUIRE(all.size() == 3);
    CHECK(all[1].group == 0);
    CHECK(all[1].generation == 1);
    CHECK(all[1].num_tokens == 8);
    CHECK(all[1].is_truncated);
    CHECK_FALSE(all[1].has_failed);
    CHECK(all[2].group == 1);
    CHECK(all[2].has_failed);
    CHECK((all[2].rewards == std::vector<std::optional<double>>{0.25, {}}));  // such vectors cannot be printed
  }
}
