#include "rl/pool_weights.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/nearest_name.h"
#include "checkpoint/tensor_file.h"

namespace dsft::rl {
namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;
constexpr const char* kPoolFile = "ensemble.safetensors";

std::vector<double> softmax(const std::vector<double>& parameters) {
  const double largest = *std::max_element(parameters.begin(), parameters.end());
  std::vector<double> values;
  for (const double parameter : parameters) values.push_back(std::exp(parameter - largest));
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  for (double& value : values) value /= sum;
  return values;
}

std::vector<double> to_doubles(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kCPU, at::kDouble).contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

}  // namespace

PoolLoss pool_loss(const at::Tensor& logits, const at::Tensor& targets, const std::vector<double>& weights) {
  const at::Tensor by_agent = logits.to(at::kFloat);
  const at::Tensor w = torch::tensor(weights, at::kFloat).to(logits.device());
  const at::Tensor log_probs = (by_agent * w.view({-1, 1, 1})).sum(0).log_softmax(-1);  // [N, V]
  const at::Tensor chosen = targets.view({1, -1, 1}).expand({by_agent.size(0), -1, 1});
  const at::Tensor expected = (by_agent * log_probs.exp()).sum(-1), of_targets = by_agent.gather(2, chosen).squeeze(2);
  const std::vector<double> in_weights = to_doubles((expected - of_targets).to(at::kDouble).sum(1));
  const double mean = std::inner_product(weights.begin(), weights.end(), in_weights.begin(), 0.0);
  PoolLoss result{.loss = -log_probs.gather(1, targets.unsqueeze(1)).to(at::kDouble).sum().item<double>()};
  for (size_t a = 0; a < weights.size(); ++a) result.gradient.push_back(weights[a] * (in_weights[a] - mean));
  return result;
}

PoolWeights::PoolWeights(const EnsembleSettings& settings)
    : settings_(settings),
      are_learned_(settings.combination.combine == Combine::kLearned),
      parameters_(settings.agents.size(), 0.0),
      exp_avg_(parameters_),
      exp_avg_sq_(parameters_) {}

std::vector<double> PoolWeights::values() const {
  if (are_learned_) return softmax(parameters_);
  std::vector<double> weights = settings_.weights();
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight /= sum;
  return weights;
}

std::map<std::string, double> PoolWeights::metrics() const {
  std::map<std::string, double> metrics;
  if (!are_learned_) return metrics;
  const std::vector<double> weights = values();
  for (size_t a = 0; a < weights.size(); ++a)
    metrics["agents/" + settings_.agents[a].name + "/pool_weight"] = weights[a];
  return metrics;
}

void PoolWeights::update(const std::vector<double>& gradient) {
  DSFT_CHECK(are_learned_ && gradient.size() == parameters_.size(), gradient.size(), " gradients");
  ++step_;
  const double correction1 = 1 - std::pow(kBeta1, step_), correction2 = 1 - std::pow(kBeta2, step_);
  for (size_t a = 0; a < gradient.size(); ++a) {
    exp_avg_[a] = kBeta1 * exp_avg_[a] + (1 - kBeta1) * gradient[a];
    exp_avg_sq_[a] = kBeta2 * exp_avg_sq_[a] + (1 - kBeta2) * gradient[a] * gradient[a];
    parameters_[a] -= settings_.combination.pool_learning_rate * (exp_avg_[a] / correction1) /
                      (std::sqrt(exp_avg_sq_[a] / correction2) + kEpsilon);
  }
}

std::string PoolWeights::names() const {
  std::vector<std::string> names;
  for (const AgentConfig& agent : settings_.agents) names.push_back(agent.name);
  return join_words(names, ", ");
}

void PoolWeights::save(const std::filesystem::path& directory) const {
  const auto tensor = [](const std::vector<double>& values) { return torch::tensor(values, at::kDouble); };
  auto metadata = checkpoint::kWeightsMetadata;
  metadata["agents"] = names();
  checkpoint::write_tensors(directory / kPoolFile,
                            {{"weights", tensor(values())},
                             {"parameters", tensor(parameters_)},
                             {"exp_avg", tensor(exp_avg_)},
                             {"exp_avg_sq", tensor(exp_avg_sq_)},
                             {"step", tensor({static_cast<double>(step_)})}},
                            metadata);
}

bool PoolWeights::are_in(const std::filesystem::path& directory) {
  return std::filesystem::exists(directory / kPoolFile);
}

void PoolWeights::load(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / kPoolFile;
  if (!are_in(directory))
    fail(ErrorKind::kCheckpoint, directory.string(), " has no ", kPoolFile,
         ": it was saved by a run without grpo.ensemble.combine: learned");
  const io::SafetensorsFile file = io::SafetensorsFile::open(path);
  const auto metadata = file.metadata().find("agents");
  const std::string found = metadata == file.metadata().end() ? "" : metadata->second;
  if (found != names())
    fail(ErrorKind::kCheckpoint, path.string(), " holds weights of the agents ", found, ", and grpo.agents has ",
         names());
  const auto read = [&](const char* name, size_t size) {
    const io::TensorInfo* info = file.find(name);
    const std::vector<double> values = info ? to_doubles(checkpoint::read_tensor(file, *info)) : std::vector<double>();
    if (values.size() != size)
      fail(ErrorKind::kCheckpoint, path.string(), " has ", values.size(), " values in `", name, "`, not ", size);
    return values;
  };
  parameters_ = read("parameters", parameters_.size());
  exp_avg_ = read("exp_avg", parameters_.size());
  exp_avg_sq_ = read("exp_avg_sq", parameters_.size());
  step_ = static_cast<int64_t>(read("step", 1)[0]);
}

}  // namespace dsft::rl
