#pragma once

#include "model/causal_lm.h"
#include "train/run_context.h"
#include "zero/parameter_shards.h"

namespace dsft::train {

/// Says, at the end of a run, whether the trained weights of all ranks are equal bit for bit, or warns of the ranks
/// whose are not. Ranks make the same updates of what they all have; a fault of a machine, or one of dsft, would show
/// nowhere else. `shards`: of stage 3; null: none. Collective; does nothing where there is one rank.
void compare_trained_weights(const model::CausalLm& model, zero::ParameterShards* shards, const RunContext& context);

}  // namespace dsft::train
