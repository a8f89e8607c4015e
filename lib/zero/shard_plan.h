#pragma once

#include <cstdint>
#include <vector>

namespace dsft::zero {

/// A parameter as the plan sees it.
struct PlannedParameter {
  int64_t numel = 0;
  int64_t bucket = 0;       ///< neighbours of the same number lie together, and are reduced and gathered as one
  bool is_sharded = false;  ///< false: every rank holds all of it; one rank may have the only slice
};

/// Elements [begin, end).
struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

/// Where parameters lie in a flat buffer, and which slices of it each rank owns. The buffer has two forms: whole, with
/// every element, and a rank's own, with its slices one behind another: all of what is not sharded, then of each
/// sharded bucket the rank-th of equal slices. Pure arithmetic (Rajbhandari et al., "ZeRO", 2020).
class ShardPlan {
 public:
  /// Parameters start at multiples of so many elements, and slices too.
  static constexpr int64_t kAlignment = 16;

  ShardPlan(const std::vector<PlannedParameter>& parameters, int64_t num_ranks, int64_t rank);

  /// Parameters [first, last) at elements `whole`.
  struct Bucket {
    int64_t first = 0, last = 0;
    Range whole;
    int64_t own_begin = 0;  ///< of this rank's slice, in its own form
    bool is_sharded = false;
  };
  const std::vector<Bucket>& buckets() const { return buckets_; }
  const Bucket& bucket_of(int64_t parameter) const { return buckets_[bucket_of_[static_cast<size_t>(parameter)]]; }
  /// The place of one of them in buckets().
  size_t index_of(const Bucket& bucket) const { return static_cast<size_t>(&bucket - buckets_.data()); }

  /// First element of a parameter in the whole form; of the number of parameters: the end.
  int64_t offset(int64_t parameter) const { return offsets_[static_cast<size_t>(parameter)]; }
  int64_t whole_size() const { return offsets_.back(); }
  int64_t own_size() const { return own_size_; }
  /// The elements of the own form that every rank has: the first so many.
  int64_t replicated_size() const { return replicated_size_; }

  /// A rank's slice of a bucket, in the whole form.
  Range slice_of(const Bucket& bucket, int64_t rank) const;
  Range own_slice(const Bucket& bucket) const { return slice_of(bucket, rank_); }

  /// The elements of a parameter that this rank owns, in the whole form; perhaps none.
  Range own_part(int64_t parameter) const;
  /// The place in the own form of an element that this rank owns.
  int64_t own_place(const Bucket& bucket, int64_t element) const {
    return bucket.own_begin + element - own_slice(bucket).begin;
  }

  int64_t num_ranks() const { return num_ranks_; }
  bool is_sharded() const { return is_sharded_; }

 private:
  int64_t num_ranks_, rank_, own_size_ = 0, replicated_size_ = 0;
  bool is_sharded_ = false;
  std::vector<int64_t> offsets_;
  std::vector<size_t> bucket_of_;
  std::vector<int64_t> numels_;
  std::vector<Bucket> buckets_;
};

}  // namespace dsft::zero
