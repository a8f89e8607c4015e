#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/example_builder.h"
#include "evaluate/eval_config.h"
#include "evaluate/evaluation_rows.h"
#include "generate/engine.h"
#include "train/evaluation.h"

namespace dsft::evaluate {

/// Generates the last assistant turn (or the completion) of each row and compares it with the row's own:
/// eval_exact_match, the share of answers whose text without white space at the ends is the row's, and eval_tool_call,
/// the share that makes the row's calls. One generation serves both. Each row is generated on one rank; draws depend on
/// the row alone. Also gives num_rows (rows judged) and num_tokens (generated).
class AnswerEvaluation final : public train::Evaluation {
 public:
  /// `metrics`: kExactMatch, kToolCall or both. Tokenises all prompts; rows without an assistant turn or completion are
  /// left out. Throws kData for a bad row, and where no row is left.
  AnswerEvaluation(const std::vector<EvaluationRow>& rows, std::shared_ptr<const data::TextAssets> assets,
                   const text::Json& template_kwargs, std::vector<Metric> metrics, int64_t max_new_tokens,
                   generate::EngineOptions engine);

  std::string name() const override;
  std::optional<std::map<std::string, double>> run(model::CausalLm& model, comm::Communicator& communicator,
                                                   const train::EvaluationMoment& moment = {}) override;

 private:
  struct Task {
    generate::Request request;
    nlohmann::ordered_json reference;  // the row's own message
    std::string reference_text;        // stripped
  };
  /// Of one rank: the tasks that it generates, their requests, and the engine for all of them; none where it has none.
  struct Share {
    std::vector<const Task*> tasks;
    std::vector<generate::Request> requests;
    std::optional<generate::Engine> engine;
  };
  void take_share(Share& share, const comm::Communicator& communicator) const;
  void build_engine(Share& share, model::CausalLm& model, const nn::BlockRunner& runner) const;
  void add_scores(Share& share, size_t first, size_t count, std::vector<double>& sums) const;
  double score(Metric metric, const Task& task, const generate::Completion& completion) const;

  std::shared_ptr<const data::TextAssets> assets_;
  std::vector<Metric> metrics_;
  generate::EngineOptions engine_;
  std::vector<Task> tasks_;
};

}  // namespace dsft::evaluate
