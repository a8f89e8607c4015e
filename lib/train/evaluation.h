#pragma once

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

/// One way to judge a model; the trainer and `dsft eval` run the same list.
class Evaluation {
 public:
  virtual ~Evaluation() = default;

  virtual std::string name() const = 0;

  /// Whether every rank makes the same number of passes, each through all blocks in their order: then what ranks share
  /// of the parameters is gathered block by block. Else all of it is there while the evaluation runs.
  virtual bool runs_by_blocks() const { return false; }

  /// Metrics by name ("eval_loss"; those that begin with "num_" say what was measured on), equal on all ranks. Leaves
  /// the model as it found it. Asks between its batches whether to stop (where it is given a check), and then gives
  /// nothing. `hooks`: around the blocks of its passes; null: none, as always where it does not run by blocks.
  /// Collective.
  virtual std::optional<std::map<std::string, double>> run(model::CausalLm& model, comm::Communicator& communicator,
                                                           const StopCheck& must_stop = {},
                                                           nn::BlockHooks* hooks = nullptr) = 0;

  /// Why the last run() gave nothing, where it was not asked to stop: the job is to save and to end with kData. Equal
  /// on all ranks.
  virtual std::optional<std::string> fault() const { return std::nullopt; }
};

}  // namespace dsft::train
