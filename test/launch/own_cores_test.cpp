#include "launch/own_cores.h"

#include <sched.h>

#include <string>
#include <thread>

#include "catch_amalgamated.hpp"

using namespace dsft;
using launch::own_cpus;
using Cpus = std::vector<int>;

TEST_CASE("Ranks share the cores, each with all threads of its own", "[launch]") {
  const std::vector<launch::Core> cores = {{0, 4}, {1, 5}, {2, 6}, {3, 7}};
  CHECK(own_cpus(cores, 0, 2) == Cpus{0, 4, 1, 5});
  CHECK(own_cpus(cores, 1, 2) == Cpus{2, 6, 3, 7});
  CHECK(own_cpus(cores, 0, 3) == Cpus{0, 4});
  CHECK(own_cpus(cores, 2, 3) == Cpus{2, 6, 3, 7});
  CHECK(own_cpus(cores, 3, 4) == Cpus{3, 7});
  CHECK(own_cpus(cores, 0, 5).empty());
}

TEST_CASE("A rank is bound where the launcher asks for it, and its threads with it", "[launch]") {
  const size_t num_cores = launch::usable_cores().size();
  REQUIRE(num_cores >= 1);
  const auto count_cores = [&](const char* asks) {
    size_t count = 0;
    std::thread([&] {
      launch::bind_to_own_cores(0, static_cast<int>(num_cores), [&](const char*) { return asks; });
      std::thread([&] { count = launch::usable_cores().size(); }).join();
    }).join();
    return count;
  };
  CHECK(count_cores("1") == 1);
  CHECK(count_cores("0") == num_cores);
  CHECK(count_cores(nullptr) == num_cores);
}
