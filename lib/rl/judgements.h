#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "comm/communicator.h"

namespace dsft::rl {

/// What is known of a completion once it was judged.
struct Judgement {
  int64_t group = 0, generation = 0;
  int64_t num_tokens = 0;
  bool is_truncated = false;  ///< its length ended it
  bool has_failed = false;    ///< a reward could not be had: it takes no part in its group
  std::vector<std::optional<double>> rewards;
};

/// The judgements of all ranks, of which each may have another number, rank by rank; the same on every rank.
/// Collective.
std::vector<Judgement> gather_judgements(const std::vector<Judgement>& own, size_t num_rewards,
                                         comm::Communicator& communicator);

}  // namespace dsft::rl
