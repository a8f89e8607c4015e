#pragma once

#include <vector>

#include "comm/communicator.h"
#include "rl/judged_round.h"

namespace dsft::rl {

/// The judgements of all ranks, of which each may have another number, rank by rank; the same on every rank.
/// Collective.
std::vector<Judgement> gather_judgements(const std::vector<Judgement>& own, size_t num_rewards,
                                         comm::Communicator& communicator);

}  // namespace dsft::rl
