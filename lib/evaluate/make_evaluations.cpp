#include "evaluate/make_evaluations.h"

#include <algorithm>

#include "evaluate/answer_evaluation.h"
#include "io/json.h"

namespace dsft::evaluate {

std::vector<std::unique_ptr<train::Evaluation>> make_evaluations(const EvalConfig& config,
                                                                 const EvaluationParts& parts) {
  std::vector<std::unique_ptr<train::Evaluation>> evaluations;
  if (!parts.rows || parts.rows->size() == 0) return evaluations;
  std::vector<Metric> generating;
  for (const Metric metric : config.metrics) {
    if (metric != Metric::kLoss && std::find(generating.begin(), generating.end(), metric) == generating.end())
      generating.push_back(metric);
  }
  if (generating.size() < config.metrics.size())
    evaluations.push_back(std::make_unique<LossEvaluation>(parts.rows, parts.pass));
  if (generating.empty()) return evaluations;
  const auto assets = std::make_shared<const data::TextAssets>(
      data::TextAssets::load(parts.folders, parts.data.chat_template.value_or("")));
  const auto template_kwargs =
      io::parse_ordered_json(parts.data.chat_template_kwargs, "data.chat_template_kwargs", ErrorKind::kUsage);
  generate::EngineOptions engine;
  engine.sampling.temperature = config.temperature;
  engine.stop_ids = assets->stop_ids;
  engine.seed = parts.seed;
  engine.max_sequences = std::max(engine.max_sequences, parts.least_sequences_together);
  evaluations.push_back(
      std::make_unique<AnswerEvaluation>(read_evaluation_rows(parts.data, parts.seed, config.num_samples), assets,
                                         template_kwargs, generating, config.max_new_tokens, engine));
  return evaluations;
}

}  // namespace dsft::evaluate
