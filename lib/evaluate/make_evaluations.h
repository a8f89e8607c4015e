#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "data/data_config.h"
#include "data/example_store.h"
#include "evaluate/eval_config.h"
#include "evaluate/loss_evaluation.h"
#include "train/evaluation.h"

namespace dsft::evaluate {

/// What the evaluations of a recipe are made of.
struct EvaluationParts {
  std::shared_ptr<const data::ExampleStore> rows;  ///< tokenised evaluation rows, for the loss
  data::DataConfig data;                           ///< names the files whose rows the generating metrics read
  spec::TextFolders folders;                       ///< tokenizer, chat template and stop tokens
  uint64_t seed = 42;
  PassSize pass = {};                    ///< of the loss
  int64_t least_sequences_together = 1;  ///< that generating metrics decode at a time; the engine's own if that is more
};

/// The evaluations that `eval.metrics` names, the loss first; empty where there are no evaluation rows. exact_match and
/// tool_call share one generation, so they are one evaluation. Reads the rows that generate. Throws kData.
std::vector<std::unique_ptr<train::Evaluation>> make_evaluations(const EvalConfig& config,
                                                                 const EvaluationParts& parts);

}  // namespace dsft::evaluate
