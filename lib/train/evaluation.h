#pragma once

#include <map>
#include <string>

#include "comm/communicator.h"
#include "model/causal_lm.h"

namespace dsft::train {

/// One way to judge a model; the trainer and `dsft eval` run the same list.
class Evaluation {
 public:
  virtual ~Evaluation() = default;

  virtual std::string name() const = 0;

  /// Metrics by name ("eval_loss"), equal on all ranks. Leaves the model as it found it. Collective.
  virtual std::map<std::string, double> run(model::CausalLm& model, comm::Communicator& communicator) = 0;
};

}  // namespace dsft::train
