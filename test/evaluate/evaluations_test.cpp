#include <ATen/Parallel.h>

#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "catch_amalgamated.hpp"
#include "comm/make_communicator.h"
#include "comm/single_process_communicator.h"
#include "comm/thread_ranks.h"
#include "data/row_prompt.h"
#include "evaluate/answer_evaluation.h"
#include "evaluate/loss_evaluation.h"
#include "evaluate/make_evaluations.h"
#include "nn/parameter_memory.h"
#include "support/require_error.h"
#include "support/temp_dir.h"
#include "support/tiny_model.h"
#include "train/sharding_hooks.h"

using namespace dsft;
using Json = nlohmann::ordered_json;

namespace {

const std::filesystem::path kText = std::filesystem::path(DSFT_SOURCE_DIR) / "test/fixtures/data";

class RowsInMemory final : public data::ExampleStore {
 public:
  explicit RowsInMemory(std::vector<data::Example> rows) : rows_(std::move(rows)) {}
  int64_t size() const override { return static_cast<int64_t>(rows_.size()); }
  int64_t length(int64_t row) const override { return static_cast<int64_t>(rows_[row].ids.size()); }
  int64_t num_supervised(int64_t row) const override { return rows_[row].num_supervised(); }
  data::Example read(int64_t row) const override { return rows_[row]; }

 private:
  std::vector<data::Example> rows_;
};

std::shared_ptr<const RowsInMemory> random_rows() {
  std::vector<data::Example> rows;
  for (Document& document : test::random_documents({9, 24, 3, 17, 30, 12, 6}, 97, 4)) {
    document.labels[0] = -100;
    rows.push_back({std::move(document.ids), std::move(document.labels)});
  }
  return std::make_shared<const RowsInMemory>(std::move(rows));
}

using Metrics = std::map<std::string, double>;

Metrics run_alone(train::Evaluation& evaluation, model::CausalLm& lm) {
  return *evaluation.run(lm, *comm::make_single_process_communicator());
}

std::vector<Metrics> run_on_ranks(int num_ranks, train::Evaluation& evaluation, model::CausalLm& lm) {
  std::vector<Metrics> metrics(static_cast<size_t>(num_ranks));
  comm::run_thread_ranks(num_ranks, [&](comm::Communicator& communicator) {
    metrics[communicator.rank()] = *evaluation.run(lm, communicator);
  });
  return metrics;
}

std::shared_ptr<const data::TextAssets> text_assets() {
  return std::make_shared<const data::TextAssets>(
      data::TextAssets::load(kText / "tokenizer", kText / "templates/chatml.jinja"));
}

// A random model whose vocabulary is the test tokenizer's.
std::shared_ptr<model::CausalLm> random_model(const text::Tokenizer& tokenizer) {
  spec::ModelSpec spec = spec::read_model_spec(test::model_fixture("qwen3"));
  spec.vocab_size = tokenizer.num_ids();
  auto lm = model::build_causal_lm(spec, at::kFloat, at::kCPU);
  torch::manual_seed(8);
  const torch::NoGradGuard no_grad;
  for (auto& [name, parameter] : model::named_parameters_of(*lm))
    parameter.normal_(parameter.dim() == 1 ? 1.0 : 0.0, 0.2);
  return lm;
}

Json question(const std::string& text) {
  return {{"role", "user"}, {"content", text}};
}
Json answer(const std::string& text) {
  return {{"role", "assistant"}, {"content", text}};
}

// Parameters whose memory is there.
int64_t count_whole(const model::CausalLm& lm) {
  int64_t count = 0;
  for (const auto& [name, parameter] : model::named_parameters_of(lm)) count += nn::has_memory(parameter);
  return count;
}

/// Gathers blocks, and sees that no more than those that run and come next are there.
class LeastWhole final : public nn::BlockHooks {
 public:
  LeastWhole(const model::CausalLm& lm, zero::ShardedOptimizer& optimizer, zero::ParameterShards& shards)
      : lm_(lm), gathering_(lm, optimizer, &shards) {}
  void before_forward(int64_t block) override {
    gathering_.before_forward(block);
    std::set<int64_t> whole;
    for (const auto& [name, parameter] : model::named_parameters_of(lm_))
      if (nn::has_memory(parameter)) whole.insert(lm_.block_of(name));
    if (lm_.has_tied_head() && block + 2 >= lm_.num_blocks()) whole.erase(0);
    DSFT_CHECK(whole.contains(block) && whole.size() <= 2, whole.size(), " blocks are there");
    ++num_blocks_;
  }
  void after_forward(int64_t block) override { gathering_.after_forward(block); }
  int64_t num_blocks() const { return num_blocks_; }

 private:
  const model::CausalLm& lm_;
  train::ShardingHooks gathering_;
  int64_t num_blocks_ = 0;
};

constexpr int64_t kNewTokens = 10;

// What the model says to a row's prompt.
std::string greedy_text(model::CausalLm& lm, const data::TextAssets& assets, const Json& row) {
  const auto prompt = data::PromptBuilder(assets, Json::object()).build_last_answer(row);
  generate::EngineOptions options;
  options.stop_ids = assets.stop_ids;
  const auto completions = generate::generate(lm, nn::BlockRunner(), {{prompt.ids, kNewTokens, 0}}, options);
  return assets.tokenizer.decode(completions[0].token_ids, /*skip_special_tokens=*/true);
}

}  // namespace

TEST_CASE("The evaluation loss is the sum of token losses over supervised tokens, whatever the batches", "[evaluate]") {
  auto lm = test::load_tiny_model("qwen3");
  const auto rows = random_rows();
  double sum = 0, count = 0, right = 0;
  {
    const torch::NoGradGuard no_grad;
    for (int64_t row = 0; row < rows->size(); ++row) {
      const data::Example example = rows->read(row);
      const Batch batch = make_batch({{example.ids, example.labels, 0}}, 0);
      const at::Tensor logits = lm->logits(lm->hidden_states(batch, nn::BlockRunner(), nullptr), nn::BlockRunner());
      const at::Tensor log_probs = at::log_softmax(logits.to(at::kDouble), 1);
      for (size_t i = 1; i < example.ids.size(); ++i) {
        if (example.labels[i] == -100) continue;
        const auto before = static_cast<int64_t>(i) - 1;
        sum -= log_probs[before][example.labels[i]].item<double>();
        right += logits[before].argmax().item<int64_t>() == example.labels[i];
        count += 1;
      }
    }
  }
  const evaluate::PassSize pass{.max_rows = GENERATE(2, 1000), .max_tokens = GENERATE(1, 40, 4096)};
  evaluate::LossEvaluation evaluation(rows, pass);
  const Metrics metrics = run_alone(evaluation, *lm);
  CHECK(std::abs(metrics.at("eval_loss") - sum / count) < 1e-5);
  CHECK(metrics.at("eval_perplexity") == std::exp(metrics.at("eval_loss")));
  CHECK(metrics.at("eval_mean_token_accuracy") == right / count);
  CHECK(metrics.at("num_rows") == 7);
  CHECK(metrics.at("num_tokens") == count);
}

TEST_CASE("The evaluation loss is the same to the last bit on any number of ranks", "[evaluate]") {
  auto lm = test::load_tiny_model("llama_plain");
  evaluate::LossEvaluation evaluation(random_rows(), {.max_tokens = 40});
  at::set_num_threads(1);
  const Metrics alone = run_alone(evaluation, *lm);
  for (const Metrics& metrics : run_on_ranks(3, evaluation, *lm)) CHECK(metrics == alone);
}

TEST_CASE("Ranks that share the parameters measure the loss block by block, to the same bits", "[evaluate]") {
  constexpr int kRanks = 3;  // of four passes: two ranks make one that counts for nothing
  evaluate::LossEvaluation evaluation(random_rows(), {.max_tokens = 40});
  REQUIRE(evaluation.runs_by_blocks());
  at::set_num_threads(1);
  for (const char* name : {"qwen3", "llama_plain"}) {  // with a tied head and without
    const Metrics alone = run_alone(evaluation, *test::load_tiny_model(name));
    std::vector<std::shared_ptr<model::CausalLm>> models;
    for (int rank = 0; rank < kRanks; ++rank) models.push_back(test::load_tiny_model(name));
    comm::run_thread_ranks(kRanks, [&](comm::Communicator& communicator) {
      model::CausalLm& lm = *models[static_cast<size_t>(communicator.rank())];
      std::vector<zero::TrainableParameter> parameters;
      for (const auto& [key, parameter] : model::named_parameters_of(lm)) {
        parameter.requires_grad_(key.find("k_proj") == std::string::npos);  // some are frozen
        if (parameter.requires_grad()) parameters.push_back({key, parameter, true, false, lm.block_of(key)});
      }
      zero::ShardedOptimizer optimizer(parameters, {.stage = 3}, communicator);
      const auto shards = train::shard_parameters(lm, optimizer, communicator);
      LeastWhole hooks(lm, optimizer, *shards);
      const auto metrics = evaluation.run(lm, communicator, {.hooks = &hooks});
      DSFT_CHECK(metrics == alone, "other metrics than those of one rank");
      shards->end_passes();
      DSFT_CHECK(hooks.num_blocks() == 2 * lm.num_blocks() && count_whole(lm) == 0, "blocks that ran, or stay");
    });
  }
}

TEST_CASE("A pass takes as many rows and tokens as it may, and a stop is heard between passes", "[evaluate]") {
  auto lm = test::load_tiny_model("qwen3");
  const auto alone = comm::make_single_process_communicator();
  const auto count_passes = [&](const evaluate::PassSize& pass) {
    int num_passes = 0;
    const auto goes_on = [&] { return ++num_passes == 1000; };
    REQUIRE(evaluate::LossEvaluation(random_rows(), pass).run(*lm, *alone, {.must_stop = goes_on}));
    return num_passes;
  };
  // rows of 9, 24, 3, 17, 30, 12 and 6 tokens
  CHECK(count_passes({.max_rows = 2, .max_tokens = 1000}) == 4);
  CHECK(count_passes({.max_tokens = 40}) == 4);  // 9+24+3, 17, 30, 12+6
  CHECK(count_passes({.max_rows = 1}) == 7);
  int num_asked = 0;
  const auto stops_at_second = [&] { return ++num_asked == 2; };
  CHECK_FALSE(
      evaluate::LossEvaluation(random_rows(), {.max_rows = 1}).run(*lm, *alone, {.must_stop = stops_at_second}));
  CHECK(num_asked == 2);
}

TEST_CASE("exact_match and tool_call judge the last assistant turn of each row, on any number of ranks", "[evaluate]") {
  const auto assets = text_assets();
  auto lm = random_model(assets->tokenizer);
  std::vector<evaluate::EvaluationRow> rows;
  for (const char* text : {"Hello there", "What is the time?", "2 + 2", "Name a colour"}) {
    Json row = {{"messages", {question("Hi"), answer("Hi!"), question(text), answer("")}}};
    row["messages"][3]["content"] =
        rows.size() % 2 == 0 ? "  " + greedy_text(*lm, *assets, row) + "\n" : "something else";
    rows.push_back({row, "row"});
  }
  rows.push_back({{{"prompt", "A text that "}, {"completion", ""}}, "row"});
  rows.back().row["completion"] = greedy_text(*lm, *assets, rows.back().row);
  rows.push_back({{{"text", "not an answer"}}, "row"});
  generate::EngineOptions engine;
  engine.stop_ids = assets->stop_ids;
  evaluate::AnswerEvaluation evaluation(
      rows, assets, Json::object(), {evaluate::Metric::kExactMatch, evaluate::Metric::kToolCall}, kNewTokens, engine);
  CHECK(evaluation.name() == "exact_match and tool_call");
  const Metrics metrics = run_alone(evaluation, *lm);
  CHECK(metrics.at("eval_exact_match") == 3.0 / 5);
  CHECK(metrics.at("eval_tool_call") == 1.0);  // no call is expected and none is made
  CHECK(metrics.at("num_rows") == 5);
  CHECK(metrics.at("num_tokens") > 5);
  for (const Metrics& of_rank : run_on_ranks(2, evaluation, *lm)) CHECK(of_rank == metrics);
}

TEST_CASE("Answers in rounds, between which a stop is heard, are judged as all at once", "[evaluate]") {
  const auto assets = text_assets();
  auto lm = random_model(assets->tokenizer);
  std::vector<evaluate::EvaluationRow> rows;
  for (const char* text : {"Hello there", "What is the time?", "2 + 2", "Name a colour", "Bye"}) {
    Json row = {{"messages", {question(text), answer("")}}};
    if (rows.size() % 2 == 0) row["messages"][1]["content"] = greedy_text(*lm, *assets, row);
    rows.push_back({row, "row"});
  }
  generate::EngineOptions engine;
  engine.stop_ids = assets->stop_ids;
  const auto evaluation_of = [&] {
    return evaluate::AnswerEvaluation(rows, assets, Json::object(), {evaluate::Metric::kExactMatch}, kNewTokens,
                                      engine);
  };
  auto at_once = evaluation_of();
  const Metrics metrics = run_alone(at_once, *lm);
  CHECK(metrics.at("eval_exact_match") >= 3.0 / 5);
  engine.max_sequences = 1;  // two rows in a round of a rank
  auto in_rounds = evaluation_of();
  const int num_ranks = GENERATE(1, 2, 7);  // of seven ranks two have no row
  std::vector<int> num_asked(static_cast<size_t>(num_ranks));
  std::vector<std::optional<Metrics>> of_ranks(static_cast<size_t>(num_ranks));
  comm::run_thread_ranks(num_ranks, [&](comm::Communicator& communicator) {
    const auto goes_on = [&] { return ++num_asked[communicator.rank()] == 1000; };
    of_ranks[communicator.rank()] = in_rounds.run(*lm, communicator, {.must_stop = goes_on});
  });
  for (const auto& of_rank : of_ranks) CHECK(of_rank == metrics);
  const int num_rounds = num_ranks == 1 ? 3 : num_ranks == 2 ? 2 : 1;
  CHECK(num_asked == std::vector<int>(static_cast<size_t>(num_ranks), num_rounds));
  int num_calls = 0;
  const auto stops_at_second = [&] { return ++num_calls == 2; };
  CHECK_FALSE(in_rounds.run(*lm, *comm::make_single_process_communicator(), {.must_stop = stops_at_second}));
}

TEST_CASE("A stop is heard before memory is taken for answers", "[evaluate]") {
  const auto assets = text_assets();
  auto lm = random_model(assets->tokenizer);
  const std::vector<evaluate::EvaluationRow> rows = {{{{"messages", {question("Hi"), answer("Hi!")}}}, "row"}};
  constexpr int64_t kMoreThanFits = int64_t{1} << 45;  // new tokens whose keys and values no machine holds
  evaluate::AnswerEvaluation evaluation(rows, assets, Json::object(), {evaluate::Metric::kExactMatch}, kMoreThanFits,
                                        {});
  CHECK_FALSE(evaluation.run(*lm, *comm::make_single_process_communicator(), {.must_stop = [] { return true; }}));
  CHECK_THROWS(run_alone(evaluation, *lm));
}

TEST_CASE("A row that expects a call fails where the model makes none", "[evaluate]") {
  const auto assets = text_assets();
  auto lm = random_model(assets->tokenizer);
  const std::string call = R"(<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>)";
  const std::vector<evaluate::EvaluationRow> rows = {
      {{{"messages", {question("Call f"), answer(call)}}}, "row"},
      {{{"messages", {question("Do nothing"), answer("Fine.")}}}, "row"}};
  evaluate::AnswerEvaluation evaluation(rows, assets, Json::object(), {evaluate::Metric::kToolCall}, 4, {});
  CHECK(run_alone(evaluation, *lm).at("eval_tool_call") == 0.5);
}

TEST_CASE("Rows without any answer are an error that names the metric", "[evaluate]") {
  const std::vector<evaluate::EvaluationRow> rows = {{{{"text", "plain"}}, "row"}};
  test::require_error(ErrorKind::kData, {"exact_match", "data.eval"}, [&] {
    evaluate::AnswerEvaluation(rows, text_assets(), Json::object(), {evaluate::Metric::kExactMatch}, 4, {});
  });
}

TEST_CASE("Evaluation rows are those of data.eval and those held out of data.train, up to the limit", "[evaluate]") {
  const test::TempDir folder;
  std::string lines;
  for (int i = 0; i < 40; ++i) lines += "{\"text\": \"row " + std::to_string(i) + "\"}\n";
  data::DataConfig config;
  config.train = {{folder.write("train.jsonl", lines).string(), 1.0}};
  config.eval = {{folder.write("eval.jsonl", "{\"text\": \"a\"}\n\n{\"text\": \"b\"}\n").string(), 1.0}};
  const auto without = evaluate::read_evaluation_rows(config, 1, std::nullopt);
  REQUIRE(without.size() == 2);
  CHECK(without[1].row["text"] == "b");
  CHECK(without[1].where.ends_with("eval.jsonl:3"));
  config.eval_fraction = 0.5;
  const auto with = evaluate::read_evaluation_rows(config, 1, std::nullopt);
  CHECK(with.size() > 10);
  CHECK(with.size() < 35);
  CHECK(evaluate::read_evaluation_rows(config, 1, 3).size() == 3);
}

TEST_CASE("The recipe's metrics become evaluations with the loss first", "[evaluate]") {
  const test::TempDir folder;
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
    std::filesystem::copy_file(kText / "tokenizer" / file, folder / file);
  evaluate::EvaluationParts parts{.rows = random_rows(), .data = {}, .folders = folder.path()};
  parts.data.chat_template = (kText / "templates/chatml.jinja").string();
  parts.data.eval = {
      {folder
           .write("eval.jsonl",
                  R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})")
           .string(),
       1.0}};
  evaluate::EvalConfig config;
  config.metrics = {evaluate::Metric::kToolCall, evaluate::Metric::kLoss, evaluate::Metric::kExactMatch};
  const auto evaluations = evaluate::make_evaluations(config, parts);
  REQUIRE(evaluations.size() == 2);
  CHECK(evaluations[0]->name() == "loss");
  CHECK(evaluations[1]->name() == "tool_call and exact_match");
  parts.rows = nullptr;
  CHECK(evaluate::make_evaluations(config, parts).empty());
}
