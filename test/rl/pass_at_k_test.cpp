#include "rl/pass_at_k.h"

#include <bit>

#include "catch_amalgamated.hpp"
#include "rl/grpo_config.h"

using namespace dsft;
using rl::pass_at_k;

TEST_CASE("pass@k is what Chen et al.'s code gives", "[rl]") {
  // 1 - np.prod(1 - k / np.arange(n - c + 1, n + 1)), numpy 2
  struct Golden {
    int64_t n, c, k;
    double value;
  };
  for (const Golden& golden : {Golden{10, 3, 1, 0.30000000000000004}, Golden{10, 3, 2, 0.5333333333333332},
                               Golden{10, 3, 4, 0.8333333333333334}, Golden{200, 1, 100, 0.5},
                               Golden{200, 7, 10, 0.3055988116177335}, Golden{16, 2, 8, 0.7666666666666666},
                               Golden{5, 0, 3, 0}, Golden{5, 5, 1, 1}, Golden{4096, 3, 64, 0.04615748656570584}}) {
    INFO(golden.n << " " << golden.c << " " << golden.k);
    CHECK(pass_at_k(golden.n, golden.c, golden.k) == Catch::Approx(golden.value).epsilon(1e-12).margin(1e-15));
  }
}

TEST_CASE("pass@k is the share of all choices of k answers among which one passes", "[rl]") {
  constexpr int kAnswers = 7;
  for (int c = 0; c <= kAnswers; ++c) {
    for (int k = 1; k <= kAnswers; ++k) {
      int chosen = 0, passed = 0;
      for (unsigned choice = 0; choice < 1U << kAnswers; ++choice) {
        if (std::popcount(choice) != k) continue;
        ++chosen;
        passed += (choice & ((1U << c) - 1)) != 0;  // the first c answers pass
      }
      INFO(c << " of " << kAnswers << " pass, " << k << " are chosen");
      CHECK(pass_at_k(kAnswers, c, k) == Catch::Approx(static_cast<double>(passed) / chosen).margin(1e-12));
    }
  }
}

TEST_CASE("Prompts with fewer judged answers than k do not count in pass@k", "[rl]") {
  const auto means = rl::mean_pass_at_k({{4, 2}, {4, 0}, {2, 1}, {0, 0}}, {1, 2, 4, 8});
  REQUIRE(means.size() == 4);
  CHECK(std::isnan(means.at(8)));  // nobody has 8
  CHECK(means.at(1) == Catch::Approx((0.5 + 0 + 0.5) / 3));
  CHECK(means.at(2) == Catch::Approx((5.0 / 6 + 0 + 1) / 3));
  CHECK(means.at(4) == Catch::Approx((1.0 + 0) / 2));
}

TEST_CASE("pass@k is reported for powers of two and for all completions of a prompt", "[rl]") {
  rl::GrpoConfig config;
  const auto reported = [&](std::optional<int64_t> in_evaluation) {
    config.num_generations_eval = in_evaluation;
    return config.reported_k();
  };
  CHECK(reported({}) == std::vector<int64_t>{1, 2, 4, 8});
  CHECK(reported(1) == std::vector<int64_t>{1});
  CHECK(reported(6) == std::vector<int64_t>{1, 2, 4, 6});
}
