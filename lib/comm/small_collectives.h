#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace dsft::comm {

/// `bytes` of root on every rank. Collective.
std::string broadcast_bytes(Communicator& communicator, const std::string& bytes, int root = 0);

/// The bytes of every rank, of any length each, in the order of ranks; the same on every rank. Collective.
std::vector<std::string> all_gather_bytes(Communicator& communicator, const std::string& bytes);

/// The sum, the largest or the smallest of one host value over the ranks. Collective.
int64_t all_reduce_value(Communicator& communicator, int64_t value, ReduceOp op = ReduceOp::kSum);
double all_reduce_value(Communicator& communicator, double value, ReduceOp op = ReduceOp::kSum);
/// True where any rank says true: for flags that every rank must act on alike. Collective.
bool any_rank(Communicator& communicator, bool flag);

}  // namespace dsft::comm
