#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <string>
#include <utility>
#include <vector>

#include "lora/lora_config.h"
#include "nn/linear.h"
#include "spec/lora_targets.h"

namespace dsft::lora {

/// A Linear of a model and its path.
struct NamedLinear {
  std::string name;
  std::shared_ptr<nn::Linear> linear;
};

/// All Linear modules of a model, in model order.
std::vector<NamedLinear> linear_modules(const torch::nn::Module& root);
/// Those whose adapter slot is filled.
std::vector<NamedLinear> adapted_modules(const torch::nn::Module& root);

/// Fills the slots of the targets, freezes everything else and makes A, B trainable (fp32, on the module's device). A
/// starts as `init_lora_weights` says (U(-1/sqrt(in), 1/sqrt(in)), PEFT's kaiming_uniform(a = sqrt 5); or N(0, 1/r^2))
/// from (seed, module path), B at zero. `modules_to_save` and `bias` make full weights trainable too. Where these are
/// one side of a tied pair, the head gets a weight of its own first, as in PEFT, which trains copies of saved modules.
/// Throws kInternal if a target is no Linear of the model (spec::match_lora_targets made them).
void attach(torch::nn::Module& root, const std::vector<spec::LoraTarget>& targets,
            const std::vector<std::string>& modules_to_save, const LoraConfig& config, uint64_t seed);

/// The base model while it lives: adapters are switched off, and back on at the end of the scope.
class AdaptersDisabled {
 public:
  explicit AdaptersDisabled(const torch::nn::Module& root);
  ~AdaptersDisabled();
  AdaptersDisabled(const AdaptersDisabled&) = delete;
  AdaptersDisabled& operator=(const AdaptersDisabled&) = delete;

 private:
  std::vector<NamedLinear> switched_off_;
};

/// A trainable tensor with the name under which PEFT and transformers know it
/// ("model.layers.0.self_attn.q_proj.lora_A.weight").
struct TrainableTensor {
  std::string name;
  at::Tensor tensor;
  bool is_adapter = false;  ///< A or B; else a weight of the model itself
};

/// Adapters and weights of the model that require a gradient, in model order.
std::vector<TrainableTensor> trainable_tensors(const torch::nn::Module& root);

}  // namespace dsft::lora
