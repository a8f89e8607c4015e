#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "comm/communicator.h"
#include "model/causal_lm.h"
#include "nn/block_runner.h"

namespace dsft::train {

/// Whether the run is to stop, the same answer on every rank. Collective.
using StopCheck = std::function<bool()>;

/// What an evaluation is told of the run that it is a part of; by default there is none.
struct EvaluationMoment {
  StopCheck must_stop = {};         ///< asked between batches; undefined: nothing stops it
  nn::BlockHooks* hooks = nullptr;  ///< around the blocks of its passes; null where it does not run by blocks
  int64_t step = 0;                 ///< updates done before it
};

/// One way to judge a model; the trainer and `dsft eval` run the same list.
class Evaluation {
 public:
  virtual ~Evaluation() = default;

  virtual std::string name() const = 0;

  /// Whether every rank makes the same number of passes, each through all blocks in their order: then what ranks share
  /// of the parameters is gathered block by block. Else all of it is there while the evaluation runs.
  virtual bool runs_by_blocks() const { return false; }

  /// Metrics by name ("eval_loss"; those that begin with "num_" say what was measured on), equal on all ranks; nothing
  /// where it was asked to stop. Leaves the model as it found it. Model and communicator of an earlier call are still
  /// there. Collective.
  virtual std::optional<std::map<std::string, double>> run(model::CausalLm& model, comm::Communicator& communicator,
                                                           const EvaluationMoment& moment = {}) = 0;

  /// Why the last run() gave nothing, where it was not asked to stop: the job is to save and to end with kData. Equal
  /// on all ranks.
  virtual std::optional<std::string> fault() const { return std::nullopt; }
};

}  // namespace dsft::train
