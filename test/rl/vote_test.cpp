#include "rl/vote.h"

#include "catch_amalgamated.hpp"

namespace dsft::rl {
namespace {

constexpr double kTolerance = 1e-6;
const std::optional<std::string> kNone;

}  // namespace

TEST_CASE("Agents agree with the others that give the same answer, by these others' weights", "[rl]") {
  CHECK(agreements({"5", "5", "7"}, {1, 1, 1}, kTolerance) == std::vector<double>{0.5, 0.5, 0});
  CHECK(agreements({"5", "5", "7"}, {1, 3, 1}, kTolerance) == std::vector<double>{0.75, 0.5, 0});
  CHECK(agreements({"5", "5.0", "10/2"}, {1, 2, 3}, kTolerance) == std::vector<double>{1, 1, 1});
  // who says nothing agrees with nobody, also not with another who says nothing
  CHECK(agreements({kNone, kNone, "5"}, {1, 1, 1}, kTolerance) == std::vector<double>{0, 0, 0});
}

TEST_CASE("The answer of most weight is elected, of several the first agent's", "[rl]") {
  CHECK(elect({"5", "7", "7"}, {1, 1, 1}, kTolerance) == 1);
  CHECK(elect({"5", "7", "7"}, {3, 1, 1}, kTolerance) == 0);
  CHECK(elect({"5", "7", "9"}, {1, 1, 1}, kTolerance) == 0);
  CHECK(elect({"5", "7", "7"}, {2, 1, 1}, kTolerance) == 0);
  CHECK(elect({"5", "7", "7"}, {0.3, 0.1, 0.2}, kTolerance) == 0);  // equal, though 0.1 + 0.2 > 0.3 in doubles
  CHECK(elect({kNone, "7", kNone}, {9, 1, 9}, kTolerance) == 1);
  CHECK_FALSE(elect({kNone, kNone}, {1, 1}, kTolerance).has_value());
}

}  // namespace dsft::rl
