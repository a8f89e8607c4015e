#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "batch/batch.h"
#include "loss/loss.h"
#include "model/causal_lm.h"
#include "nn/block_runner.h"
#include "optim/schedule.h"
#include "train/evaluation.h"
#include "train/observer.h"
#include "train/training_config.h"
#include "train/update_callback.h"
#include "zero/sharded_optimizer.h"

namespace dsft::train {

/// All that one run needs; a recipe fills it. The trainer knows no recipe, family, back end or loss by name.
struct Job {
  std::shared_ptr<model::CausalLm> model;
  std::unique_ptr<StepSource> source;
  std::unique_ptr<loss::Loss> loss;
  std::unique_ptr<zero::ShardedOptimizer> optimizer;
  std::unique_ptr<zero::ParameterShards> shards;  ///< null: every rank has all parameters
  std::unique_ptr<nn::BlockHooks> hooks;          ///< may be null
  optim::Schedule schedule;
  int64_t max_steps = 0;
  std::vector<std::unique_ptr<Evaluation>> evaluations;
  std::vector<std::unique_ptr<Observer>> observers;        ///< empty but on rank 0
  std::vector<std::unique_ptr<UpdateCallback>> callbacks;  ///< the same ones on every rank
  /// Writes the trained weights and what belongs to them into an empty folder. Collective: fails on all ranks or none.
  std::function<void(const std::filesystem::path& directory)> save_weights;
  uint64_t weights_size_bytes = 0;  ///< about what save_weights writes
  /// Reads them back into the model, of what is sharded each rank's own slices, for resuming and for the best model.
  /// Collective where parameters are sharded.
  std::function<void(const std::filesystem::path& directory)> load_weights;
  /// What the order and the content of the data depend on, by name: a run that continues is told what has changed.
  std::map<std::string, std::string> data_fingerprint;
};

}  // namespace dsft::train
