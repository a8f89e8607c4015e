#pragma once

#include "kernels/sample_tokens.h"
#include "spec/generation_defaults.h"

namespace dsft::generate {

using kernels::SamplingOptions;

/// What a checkpoint's generation_config.json asks for; keys that it does not have filter nothing.
SamplingOptions sampling_of(const spec::GenerationDefaults& defaults);

}  // namespace dsft::generate
