#pragma once

#include <cstdint>
#include <vector>

#include "comm/communicator.h"
#include "model/causal_lm.h"
#include "zero/parameter_shards.h"

namespace dsft::train {

/// A number of the trained tensors' bits: two ranks that differ in any bit of them have different ones, but for a
/// chance of about 2^-60. `shards`: where set, blocks are gathered in turn (collective).
uint64_t digest_trained_weights(const model::CausalLm& model, zero::ParameterShards* shards);

/// A value of each rank, by rank. Collective.
std::vector<uint64_t> gather_digests(comm::Communicator& communicator, uint64_t own);

}  // namespace dsft::train
