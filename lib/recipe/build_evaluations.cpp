#include "recipe/build_evaluations.h"

#include <limits>

#include "base/error.h"
#include "evaluate/make_evaluations.h"
#include "recipe_config/input_checks.h"

namespace dsft::recipe {
namespace {

constexpr int64_t kAnyNumber = std::numeric_limits<int64_t>::max();

}  // namespace

std::vector<std::unique_ptr<train::Evaluation>> build_evaluations(const recipe_config::RecipeConfig& config,
                                                                  const spec::TextFolders& folders,
                                                                  const data::PreparedData& data,
                                                                  const train::RunContext& context) {
  if (!data.eval || data.eval->size() == 0) fail(ErrorKind::kUsage, recipe_config::no_evaluation_rows(config));
  evaluate::EvaluationParts parts;
  parts.rows = data.eval;
  parts.data = config.data;
  parts.folders = folders;
  parts.seed = context.seed;
  const int64_t size = config.training.per_device_eval_batch_size;
  parts.least_sequences_together = size;
  // bins when packing: as many tokens as they may hold
  parts.pass = config.data.packing ? evaluate::PassSize{.max_tokens = size * config.data.max_length}
                                   : evaluate::PassSize{.max_rows = size, .max_tokens = kAnyNumber};
  return evaluate::make_evaluations(config.eval, parts);
}

}  // namespace dsft::recipe
