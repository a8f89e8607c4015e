#include "zero/shard_plan.h"

#include <algorithm>

#include "base/error.h"

namespace dsft::zero {
namespace {

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

ShardPlan::ShardPlan(const std::vector<PlannedParameter>& parameters, int64_t num_ranks, int64_t rank)
    : num_ranks_(num_ranks), rank_(rank) {
  DSFT_CHECK(num_ranks > 0 && rank >= 0 && rank < num_ranks, "rank ", rank, " of ", num_ranks);
  int64_t end = 0;
  for (size_t first = 0; first < parameters.size();) {
    Bucket bucket{.first = static_cast<int64_t>(first), .last = 0, .whole = {end, end}};
    bucket.is_sharded = parameters[first].is_sharded;
    size_t last = first;
    for (; last < parameters.size() && parameters[last].bucket == parameters[first].bucket &&
           parameters[last].is_sharded == parameters[first].is_sharded;
         ++last) {
      DSFT_CHECK(parameters[last].numel >= 0, "a parameter of ", parameters[last].numel, " elements");
      offsets_.push_back(end);
      numels_.push_back(parameters[last].numel);
      bucket_of_.push_back(buckets_.size());
      end += round_up(parameters[last].numel, kAlignment);
    }
    if (bucket.is_sharded) end = bucket.whole.begin + round_up(end - bucket.whole.begin, kAlignment * num_ranks);
    bucket.last = static_cast<int64_t>(last);
    bucket.whole.end = end;
    is_sharded_ = is_sharded_ || bucket.is_sharded;
    buckets_.push_back(bucket);
    first = last;
  }
  offsets_.push_back(end);
  for (const bool is_sharded : {false, true}) {
    for (Bucket& bucket : buckets_) {
      if (bucket.is_sharded != is_sharded) continue;
      bucket.own_begin = own_size_;
      own_size_ += own_slice(bucket).size();
    }
    if (!is_sharded) replicated_size_ = own_size_;
  }
}

Range ShardPlan::slice_of(const Bucket& bucket, int64_t rank) const {
  if (!bucket.is_sharded) return bucket.whole;
  const int64_t size = bucket.whole.size() / num_ranks_;
  return {bucket.whole.begin + rank * size, bucket.whole.begin + (rank + 1) * size};
}

Range ShardPlan::own_part(int64_t parameter) const {
  const Range slice = own_slice(bucket_of(parameter));
  const int64_t begin = std::max(slice.begin, offset(parameter));
  const int64_t end = std::min(slice.end, offset(parameter) + numels_[static_cast<size_t>(parameter)]);
  return begin < end ? Range{begin, end} : Range{offset(parameter), offset(parameter)};
}

}  // namespace dsft::zero
