#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "model/causal_lm.h"

namespace dsft::model {

/// One row per model_type: how its modules are built from a spec.
struct Family {
  std::string_view model_type;
  std::shared_ptr<CausalLm> (*build)(const spec::ModelSpec& spec, at::TensorOptions options, ParameterMemory memory);
};

/// The table of known families (families.cpp); a new one is a file in families/ and a row there.
const std::vector<Family>& families();

std::shared_ptr<CausalLm> build_llama(const spec::ModelSpec& spec, at::TensorOptions options, ParameterMemory memory);
std::shared_ptr<CausalLm> build_qwen2(const spec::ModelSpec& spec, at::TensorOptions options, ParameterMemory memory);
std::shared_ptr<CausalLm> build_qwen3(const spec::ModelSpec& spec, at::TensorOptions options, ParameterMemory memory);

}  // namespace dsft::model
