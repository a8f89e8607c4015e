#pragma once

#include "base/logger.h"
#include "options/bench_options.h"
#include "options/consolidate_options.h"
#include "options/eval_options.h"
#include "options/generate_options.h"
#include "options/init_model_options.h"
#include "options/merge_lora_options.h"
#include "options/score_options.h"
#include "options/train_options.h"

/// What dsft-trainer can do: one function per task, in the file of its name. Each gives the exit code and throws
/// dsft::Error.
namespace dsft::apps {

int run_train(const TrainOptions& options, const Logger& logger);
int run_eval(const EvalOptions& options, const Logger& logger);
int run_generate(const GenerateOptions& options, const Logger& logger);
int run_score(const ScoreOptions& options, const Logger& logger);
/// With --verify the logits of both models on a fixed prompt are compared after the weights.
int run_merge_lora(const MergeLoraOptions& options, const Logger& logger);
int run_consolidate(const ConsolidateOptions& options, const Logger& logger);
int run_init_model(const InitModelOptions& options, const Logger& logger);
int run_bench(const BenchOptions& options, const Logger& logger);

}  // namespace dsft::apps
