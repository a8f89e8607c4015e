#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "rl/ensemble_config.h"

namespace dsft::rl {

/// Cross-entropy of tokens by an ensemble's pool, and its gradient in the parameters theta of w = softmax(theta).
struct PoolLoss {
  double loss = 0;                    ///< sum over the tokens, in nats
  std::vector<double> gradient = {};  ///< [A], of that sum
};

/// The loss of `targets` int64 [N] where the agents' own logits are [A, N, V] and their weights are `weights` = w. The
/// head is affine and the weights add up to 1, so that the head of the pooled hidden states is the pool of the logits:
/// z = sum_a w_a L_a, and with p = softmax(z) the gradient in w_a is sum_n (sum_v p L_a - L_a[target]).
PoolLoss pool_loss(const at::Tensor& logits, const at::Tensor& targets, const std::vector<double>& weights);

/// How much each agent's last hidden state counts in the ensemble's pool (docs/agents.md): as its weight says (`mean`),
/// or softmax(theta) with parameters theta that begin as zeros and are learned (`learned`). The same on all ranks.
class PoolWeights final {
 public:
  explicit PoolWeights(const EnsembleSettings& settings);

  bool are_learned() const { return are_learned_; }
  /// [A], with the sum 1.
  std::vector<double> values() const;

  /// agents/<name>/pool_weight of learned weights; of others nothing, for they stay what the recipe says.
  std::map<std::string, double> metrics() const;

  /// One step of Adam (Kingma and Ba, 2015; beta 0.9 and 0.999, epsilon 1e-8) by a gradient [A] in the parameters.
  void update(const std::vector<double>& gradient);

  /// Writes ensemble.safetensors: `weights` (values()), `parameters`, and Adam's `exp_avg`, `exp_avg_sq` and `step`,
  /// fp64 each; metadata `agents`: their names. Throws kCheckpoint.
  void save(const std::filesystem::path& directory) const;
  /// Whether save() wrote into this folder.
  static bool are_in(const std::filesystem::path& directory);
  /// Goes on with what save() wrote. Throws kCheckpoint where it is not there, or of other agents.
  void load(const std::filesystem::path& directory);

 private:
  std::string names() const;

  EnsembleSettings settings_;
  bool are_learned_;
  std::vector<double> parameters_, exp_avg_, exp_avg_sq_;  // [A]
  int64_t step_ = 0;
};

}  // namespace dsft::rl
