#include "recipe/same_recipe.h"

#include "catch_amalgamated.hpp"
#include "comm/thread_ranks.h"
#include "support/require_error.h"

using namespace dsft;

TEST_CASE("Ranks that read different recipes are a fault that names the key", "[recipe]") {
  const auto compare = [](double rate_of_rank_1) {
    comm::run_thread_ranks(3, [&](comm::Communicator& ranks) {
      recipe_config::RecipeConfig config;
      config.training.learning_rate = ranks.rank() == 1 ? rate_of_rank_1 : 1e-4;
      config.data.num_workers = 1 + ranks.rank();  // hosts may have different numbers of cores
      recipe::require_same_recipe(config, ranks);
    });
  };
  REQUIRE_NOTHROW(compare(1e-4));
  test::require_error(ErrorKind::kUsage,
                      {"rank 1 reads another recipe than rank 0", "learning_rate: 2.0e-04", "learning_rate: 1.0e-04"},
                      [&] { compare(2e-4); });
}
