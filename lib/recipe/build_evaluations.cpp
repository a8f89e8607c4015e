#include "recipe/build_evaluations.h"

#include "base/error.h"
#include "evaluate/make_evaluations.h"

namespace dsft::recipe {

std::vector<std::unique_ptr<train::Evaluation>> build_evaluations(const recipe_config::RecipeConfig& config,
                                                                  const LoadedModel& loaded,
                                                                  const data::PreparedData& data,
                                                                  const train::RunContext& context) {
  if (!data.eval || data.eval->size() == 0)
    fail(ErrorKind::kUsage,
         "there are no rows to evaluate on: write data.eval (files) or data.eval_fraction (a share of data.train)");
  evaluate::EvaluationParts parts;
  parts.rows = data.eval;
  parts.data = config.data;
  parts.model_directory = loaded.directory;
  parts.seed = context.seed;
  return evaluate::make_evaluations(config.eval, parts);
}

}  // namespace dsft::recipe
