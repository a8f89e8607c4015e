#include "evaluate/answer_evaluation.h"

#include <algorithm>

#include "base/error.h"
#include "base/nearest_name.h"
#include "config/words.h"
#include "data/row_prompt.h"
#include "evaluate/answer_match.h"

namespace dsft::evaluate {
namespace {

constexpr int64_t kRoundsOfPlaces = 2;

bool has_tool_calls(const nlohmann::ordered_json& message) {
  const auto calls = message.find("tool_calls");
  return calls != message.end() && calls->is_array() && !calls->empty();
}

// What the model would have to say: the text itself, or the calls in the template's own form, as training would
// supervise them.
std::string reference_text(data::ExampleBuilder& builder, const data::TextAssets& assets, const EvaluationRow& row,
                           const nlohmann::ordered_json& answer) {
  if (!has_tool_calls(answer)) return std::string(stripped(text_of_message(answer)));
  std::vector<int32_t> ids;
  for (const int32_t label : builder.build(row.row).labels)
    if (label != data::kIgnored) ids.push_back(label);
  return std::string(stripped(assets.tokenizer.decode(ids, /*skip_special_tokens=*/true)));
}

}  // namespace

AnswerEvaluation::AnswerEvaluation(const std::vector<EvaluationRow>& rows,
                                   std::shared_ptr<const data::TextAssets> assets, const text::Json& template_kwargs,
                                   std::vector<Metric> metrics, int64_t max_new_tokens, generate::EngineOptions engine)
    : assets_(std::move(assets)), metrics_(std::move(metrics)), engine_(std::move(engine)) {
  const data::PromptBuilder prompts(*assets_, template_kwargs);
  data::ExampleBuilder builder(*assets_, data::LossOn::kCompletion, template_kwargs);
  for (const EvaluationRow& row : rows) {
    try {
      data::RowPrompt prompt = prompts.build_last_answer(row.row);
      if (prompt.answer.is_null()) continue;
      const bool compares_text = std::find(metrics_.begin(), metrics_.end(), Metric::kExactMatch) != metrics_.end();
      tasks_.push_back({.request = {std::move(prompt.ids), max_new_tokens, tasks_.size()},
                        .reference = prompt.answer,
                        .reference_text = compares_text ? reference_text(builder, *assets_, row, prompt.answer) : ""});
    } catch (Error& error) {
      throw error.add_context("in evaluation row " + row.where);
    }
  }
  if (tasks_.empty()) {
    fail(ErrorKind::kData, "none of the ", rows.size(),
         " evaluation rows has an assistant turn or a completion, which eval.metrics ", name(),
         " compares with; name files with such rows in data.eval or leave the metric out.");
  }
}

std::string AnswerEvaluation::name() const {
  std::vector<std::string> words;
  for (const Metric metric : metrics_) words.emplace_back(config::to_word(metric));
  return join_words(words);
}

double AnswerEvaluation::score(Metric metric, const Task& task, const generate::Completion& completion) const {
  const bool ends_with_stop = completion.finish_reason == generate::FinishReason::kStop;
  const std::span<const int32_t> ids(completion.token_ids.data(),
                                     completion.token_ids.size() - (ends_with_stop ? 1 : 0));
  if (metric == Metric::kExactMatch)
    return stripped(assets_->tokenizer.decode(ids, /*skip_special_tokens=*/true)) == task.reference_text;
  // the marks of a call may be special tokens
  return makes_same_calls(assets_->tokenizer.decode(ids, /*skip_special_tokens=*/false), task.reference);
}

void AnswerEvaluation::take_share(Share& share, const comm::Communicator& communicator) const {
  const auto rank = static_cast<size_t>(communicator.rank()), size = static_cast<size_t>(communicator.size());
  for (size_t i = rank; i < tasks_.size(); i += size) {
    share.tasks.push_back(&tasks_[i]);
    share.requests.push_back(tasks_[i].request);
  }
}

void AnswerEvaluation::build_engine(Share& share, model::CausalLm& model, const nn::BlockRunner& runner) const {
  if (share.tasks.empty()) return;
  int64_t longest = 0;
  for (const generate::Request& request : share.requests)
    longest = std::max(longest, static_cast<int64_t>(request.prompt_ids.size()) + request.max_new_tokens);
  generate::EngineOptions options = engine_;
  options.max_sequences = std::min(engine_.max_sequences, static_cast<int64_t>(share.tasks.size()));
  share.engine.emplace(model, runner, options, longest);
}

// Answers `count` of the share's requests, as far as there are that many.
void AnswerEvaluation::add_scores(Share& share, size_t first, size_t count, std::vector<double>& sums) const {
  if (first >= share.tasks.size()) return;
  count = std::min(count, share.tasks.size() - first);
  const auto begin = share.requests.begin() + static_cast<std::ptrdiff_t>(first);
  const auto completions = share.engine->generate({begin, begin + static_cast<std::ptrdiff_t>(count)});
  for (size_t r = 0; r < count; ++r) {
    for (size_t m = 0; m < metrics_.size(); ++m) sums[m] += score(metrics_[m], *share.tasks[first + r], completions[r]);
    sums.back() += static_cast<double>(completions[r].token_ids.size());
  }
}

std::optional<std::map<std::string, double>> AnswerEvaluation::run(model::CausalLm& model,
                                                                   comm::Communicator& communicator,
                                                                   const train::EvaluationMoment& moment) {
  DSFT_CHECK(moment.hooks == nullptr, "ranks that generate make passes of their own");
  const nn::BlockRunner runner;
  Share share;  // with one engine for all rounds, which share its cache and its recorded steps
  take_share(share, communicator);
  // a round keeps every place of the engine busy for a while, and is short enough to be waited for
  const size_t round = moment.must_stop ? static_cast<size_t>(kRoundsOfPlaces * engine_.max_sequences) : tasks_.size();
  const auto size = static_cast<size_t>(communicator.size());
  std::vector<double> own(metrics_.size() + 1, 0.0);  // matches of each metric, then generated tokens
  for (size_t first = 0; first * size < tasks_.size(); first += round) {  // as many rounds on every rank
    if (moment.must_stop && moment.must_stop()) return std::nullopt;
    if (first == 0) build_engine(share, model, runner);  // its cache is large: not for a run that is to stop
    add_scores(share, first, round, own);
  }
  at::Tensor sums = torch::tensor(own, at::kDouble);
  communicator.all_reduce(sums);
  const double* totals = sums.const_data_ptr<double>();
  const auto num_rows = static_cast<double>(tasks_.size());
  std::map<std::string, double> metrics = {{"num_rows", num_rows}, {"num_tokens", totals[metrics_.size()]}};
  for (size_t m = 0; m < metrics_.size(); ++m)
    metrics[concat("eval_", config::to_word(metrics_[m]))] = totals[m] / num_rows;
  return metrics;
}

}  // namespace dsft::evaluate
