#include "model/causal_lm.h"

#include <algorithm>

#include "base/error.h"
#include "base/nearest_name.h"
#include "model/families.h"

namespace dsft::model {

kernels::DropoutKeys dropout_keys(const Batch& batch, const TrainingMode* training) {
  if (!training) return {};
  return {training->seed, batch.sample_keys, batch.positions[0].contiguous()};
}

int64_t CausalLm::block_of(const std::string& tensor) const {
  for (int64_t block = 0; block < num_blocks(); ++block)
    if (is_inside(tensor, block_modules(block))) return block;
  DSFT_CHECK(false, tensor, " lies in no block");
}

std::vector<std::pair<std::string, at::Tensor>> CausalLm::block_parameters(int64_t block) const {
  auto list = named_parameters_of(*this);
  const std::vector<std::string> modules = block_modules(block);
  std::erase_if(list, [&](const auto& item) { return !is_inside(item.first, modules); });
  return list;
}

at::Tensor CausalLm::logits(const at::Tensor& rows, const nn::BlockRunner& runner, const nn::ForwardContext& context) {
  return run_head(rows, runner, [&context](const at::Tensor& normalised, const nn::Linear& head) {
    return std::vector<at::Tensor>{head.forward(normalised, context)};
  })[0];
}

std::shared_ptr<CausalLm> build_causal_lm(const spec::ModelSpec& spec, at::ScalarType dtype, at::Device device,
                                          ParameterMemory memory) {
  const auto options = at::TensorOptions(dtype).device(device);
  std::vector<std::string> known;
  for (const Family& family : families()) {
    if (family.model_type == spec.model_type) return family.build(spec, options, memory);
    known.push_back(std::string(family.model_type));
  }
  fail(ErrorKind::kCheckpoint, "model_type '", spec.model_type, "' is not known; known: ", join_words(known));
}

std::vector<std::pair<std::string, at::Tensor>> named_parameters_of(const torch::nn::Module& model) {
  std::vector<std::pair<std::string, at::Tensor>> list;
  for (const auto& item : model.named_parameters()) list.emplace_back(item.key(), item.value());
  return list;
}

bool is_inside(const std::string& tensor, const std::vector<std::string>& modules) {
  return std::any_of(modules.begin(), modules.end(),
                     [&](const std::string& module) { return tensor.starts_with(module + "."); });
}

}  // namespace dsft::model
