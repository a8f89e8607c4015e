#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace dsft::rl {

/// What the pool of an ensemble's agents made of one prompt.
struct PooledAnswer {
  int64_t prompt = 0;                                       ///< of the round
  double score = std::numeric_limits<double>::quiet_NaN();  ///< what math_answer gives its answer; NaN: nothing
  double loss = 0;                                          ///< of the row's right answer, in nats, and its tokens; 0
  double num_tokens = 0;                                    ///< where there is none, or weights are not learned
  std::vector<double> gradient = {};                        ///< [A]: of that loss, in the parameters of the weights
};

/// The pooled answers of all ranks in the order of prompts, so that what follows from them does not depend on who gave
/// them.
class PooledRound {
 public:
  /// `own`: of this rank. `num_agents`: A. Collective.
  PooledRound(const std::vector<PooledAnswer>& own, int64_t num_agents, comm::Communicator& communicator);

  /// ensemble/accuracy: the share of answers that are right (NaN where none is judged); where weights are learned,
  /// ensemble/loss: nats for a token of the right answers (NaN where there are none).
  std::map<std::string, double> metrics(bool are_learned) const;
  /// [A]: of the mean loss of a token; empty where there is nothing to learn from.
  std::vector<double> gradient() const;

 private:
  double num_right_ = 0, num_judged_ = 0, loss_ = 0, num_tokens_ = 0;
  std::vector<double> gradient_;  // of the sum
};

}  // namespace dsft::rl
