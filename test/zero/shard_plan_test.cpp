#include "zero/shard_plan.h"

#include <map>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "support/require_error.h"

using namespace dsft;
using zero::PlannedParameter;
using zero::Range;
using zero::ShardPlan;

namespace {

const std::vector<PlannedParameter> kParameters = {{100, 0, true}, {7, 0, true}, {1, 1, true}, {64, 1, false},
                                                   {33, 1, false}, {0, 2, true}, {5, 3, true}};

}  // namespace

TEST_CASE("Every element of a parameter is owned by one rank where it is sharded, else by all", "[zero]") {
  for (int64_t num_ranks = 1; num_ranks <= 7; ++num_ranks) {
    std::map<int64_t, int> owners;  // by element of the whole form
    for (int64_t rank = 0; rank < num_ranks; ++rank) {
      const ShardPlan plan(kParameters, num_ranks, rank);
      for (size_t i = 0; i < kParameters.size(); ++i) {
        const Range part = plan.own_part(static_cast<int64_t>(i));
        for (int64_t element = part.begin; element < part.end; ++element) ++owners[element];
      }
    }
    const ShardPlan plan(kParameters, num_ranks, 0);
    INFO(num_ranks << " ranks");
    size_t num_elements = 0;
    for (size_t i = 0; i < kParameters.size(); ++i) {
      const bool is_sharded = kParameters[i].is_sharded;
      for (int64_t k = 0; k < kParameters[i].numel; ++k, ++num_elements)
        REQUIRE(owners[plan.offset(static_cast<int64_t>(i)) + k] == (is_sharded ? 1 : num_ranks));
    }
    REQUIRE(owners.size() == num_elements);
  }
}

TEST_CASE("Slices are equal and aligned, and a rank's lie one behind another, behind what all ranks have", "[zero]") {
  for (int64_t num_ranks : {1, 2, 3, 4}) {
    for (int64_t rank = 0; rank < num_ranks; ++rank) {
      const ShardPlan plan(kParameters, num_ranks, rank);
      REQUIRE(plan.buckets().size() == 5);
      int64_t end = 0, replicated_end = 0, own_end = 64 + 48;  // the bucket that is not sharded, in whole 16 elements
      for (const ShardPlan::Bucket& bucket : plan.buckets()) {
        REQUIRE(bucket.whole.begin == end);
        int64_t& place = bucket.is_sharded ? own_end : replicated_end;
        REQUIRE(bucket.own_begin == place);
        const Range slice = plan.own_slice(bucket);
        REQUIRE(slice.begin % ShardPlan::kAlignment == 0);
        REQUIRE(slice.size() * (bucket.is_sharded ? num_ranks : 1) == bucket.whole.size());
        if (slice.size() > 0) REQUIRE(plan.own_place(bucket, slice.begin) == bucket.own_begin);
        end = bucket.whole.end;
        place += slice.size();
      }
      REQUIRE(plan.whole_size() == end);
      REQUIRE(plan.replicated_size() == replicated_end);
      REQUIRE(plan.own_size() == own_end);
      REQUIRE(plan.is_sharded());
    }
  }
}

TEST_CASE("One rank has all, without more gaps than alignment needs", "[zero]") {
  const ShardPlan plan(kParameters, 1, 0);
  REQUIRE(plan.own_size() == plan.whole_size());
  REQUIRE(plan.whole_size() == 112 + 16 + 16 + 64 + 48 + 0 + 16);
  REQUIRE(plan.own_part(4) == Range{plan.offset(4), plan.offset(4) + 33});
  test::require_error(ErrorKind::kInternal, {"rank 3 of 3"}, [] { ShardPlan(kParameters, 3, 3); });
}
