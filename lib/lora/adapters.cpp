#include "lora/adapters.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <unordered_map>

#include "base/counter_random.h"
#include "base/error.h"

namespace dsft::lora {
namespace {

at::Tensor uniform_matrix(int64_t rows, int64_t columns, double bound, const CounterStream& stream) {
  at::Tensor matrix = torch::empty({rows, columns}, at::kFloat);
  float* values = matrix.data_ptr<float>();
  for (int64_t i = 0; i < matrix.numel(); ++i) values[i] = static_cast<float>((2 * stream.uniform(i) - 1) * bound);
  return matrix;
}

// Box-Muller, one value per pair of uniforms.
at::Tensor normal_matrix(int64_t rows, int64_t columns, double deviation, const CounterStream& stream) {
  at::Tensor matrix = torch::empty({rows, columns}, at::kFloat);
  float* values = matrix.data_ptr<float>();
  for (int64_t i = 0; i < matrix.numel(); ++i)
    values[i] = static_cast<float>(deviation * std::sqrt(-2 * std::log(1 - stream.uniform(2 * i))) *
                                   std::cos(2 * std::numbers::pi * stream.uniform(2 * i + 1)));
  return matrix;
}

nn::LoraAdapter make_adapter(const spec::LoraTarget& target, const LoraConfig& config, uint64_t seed,
                             at::Device device) {
  const CounterStream stream(seed, hash_name(target.module + ".lora_A.weight"));
  nn::LoraAdapter adapter;
  adapter.a = config.init_lora_weights == InitLoraWeights::kGaussian
                  ? normal_matrix(target.r, target.in_features, 1.0 / target.r, stream)
                  : uniform_matrix(target.r, target.in_features, 1.0 / std::sqrt(target.in_features), stream);
  adapter.a = adapter.a.to(device).requires_grad_(true);
  adapter.b =
      torch::zeros({target.out_features, target.r}, at::TensorOptions(at::kFloat).device(device).requires_grad(true));
  adapter.scale = target.scale;
  adapter.dropout = config.lora_dropout;
  adapter.dropout_key = hash_name(target.module);
  return adapter;
}

bool is_inside(const std::string& parameter, const std::string& module) {
  return parameter.compare(0, module.size() + 1, module + ".") == 0;
}

bool is_bias(const std::string& parameter) {
  return parameter.ends_with(".bias");
}

void free_biases(torch::nn::Module& root, const std::vector<spec::LoraTarget>& targets, Bias bias) {
  if (bias == Bias::kNone) return;
  for (auto& item : root.named_parameters()) {
    if (!is_bias(item.key())) continue;
    const bool is_targeted = std::any_of(targets.begin(), targets.end(),
                                         [&](const auto& target) { return is_inside(item.key(), target.module); });
    if (bias == Bias::kAll || is_targeted) item.value().requires_grad_(true);
  }
}

// A tied weight belongs to two modules. One that is trained whole must not change the other.
void untie_saved(torch::nn::Module& root, const std::vector<std::string>& modules_to_save) {
  const auto is_saved = [&](const std::string& parameter) {
    return std::any_of(modules_to_save.begin(), modules_to_save.end(),
                       [&](const std::string& module) { return is_inside(parameter, module); });
  };
  for (const NamedLinear& item : linear_modules(root)) {
    if (!item.linear->is_tied()) continue;
    bool is_side_saved = is_saved(item.name + ".weight");
    for (const auto& other : root.named_parameters())
      is_side_saved = is_side_saved || (other.value().is_same(item.linear->weight()) && is_saved(other.key()));
    if (is_side_saved) item.linear->untie();
  }
}

}  // namespace

std::vector<NamedLinear> linear_modules(const torch::nn::Module& root) {
  std::vector<NamedLinear> list;
  for (const auto& item : root.named_modules("", /*include_self=*/false))
    if (auto linear = std::dynamic_pointer_cast<nn::Linear>(item.value())) list.push_back({item.key(), linear});
  return list;
}

std::vector<NamedLinear> adapted_modules(const torch::nn::Module& root) {
  std::vector<NamedLinear> list = linear_modules(root);
  std::erase_if(list, [](const NamedLinear& item) { return !item.linear->adapter(); });
  return list;
}

void attach(torch::nn::Module& root, const std::vector<spec::LoraTarget>& targets,
            const std::vector<std::string>& modules_to_save, const LoraConfig& config, uint64_t seed) {
  for (at::Tensor& parameter : root.parameters()) parameter.requires_grad_(false);
  std::unordered_map<std::string, std::shared_ptr<nn::Linear>> linears;
  for (const NamedLinear& item : linear_modules(root)) linears[item.name] = item.linear;
  for (const spec::LoraTarget& target : targets) {
    const auto found = linears.find(target.module);
    DSFT_CHECK(found != linears.end(), "LoRA target ", target.module, " is no Linear of the model");
    found->second->adapter() = make_adapter(target, config, seed, found->second->weight().device());
  }
  free_biases(root, targets, config.bias);
  untie_saved(root, modules_to_save);
  for (auto& item : root.named_parameters())
    for (const std::string& module : modules_to_save)
      if (is_inside(item.key(), module)) item.value().requires_grad_(true);
}

AdaptersDisabled::AdaptersDisabled(const torch::nn::Module& root) {
  for (NamedLinear& item : adapted_modules(root)) {
    if (!item.linear->adapter()->is_enabled) continue;
    item.linear->adapter()->is_enabled = false;
    switched_off_.push_back(item);
  }
}

AdaptersDisabled::~AdaptersDisabled() {
  for (NamedLinear& item : switched_off_) item.linear->adapter()->is_enabled = true;
}

std::vector<TrainableTensor> trainable_tensors(const torch::nn::Module& root) {
  std::vector<TrainableTensor> list;
  for (const NamedLinear& item : adapted_modules(root)) {
    list.push_back({item.name + ".lora_A.weight", item.linear->adapter()->a, true});
    list.push_back({item.name + ".lora_B.weight", item.linear->adapter()->b, true});
  }
  for (const auto& item : root.named_parameters())
    if (item.value().requires_grad()) list.push_back({item.key(), item.value(), false});
  return list;
}

}  // namespace dsft::lora
