#include "generate/sampling.h"

#include <nlohmann/json.hpp>

#include "base/counter_random.h"
#include "catch_amalgamated.hpp"
#include "io/json.h"

using namespace dsft;

namespace {

at::Tensor to_tensor(const nlohmann::json& rows) {
  std::vector<at::Tensor> tensors;
  for (const auto& row : rows) tensors.push_back(torch::tensor(row.get<std::vector<float>>()));
  return torch::stack(tensors);
}

generate::SamplingOptions options_of(const nlohmann::json& json) {
  return {.temperature = json.value("temperature", 0.0),
          .top_k = json.value("top_k", int64_t{0}),
          .top_p = json.value("top_p", 1.0),
          .min_p = json.value("min_p", 0.0),
          .repetition_penalty = json.value("repetition_penalty", 1.0)};
}

// Probabilities by token id, normalised.
at::Tensor spread(const generate::Candidates& candidates, int64_t vocab_size) {
  at::Tensor probabilities = candidates.probabilities;
  if (candidates.ids.defined())
    probabilities = torch::zeros({probabilities.size(0), vocab_size}).scatter(1, candidates.ids, probabilities);
  return probabilities / probabilities.sum(1, true);
}

}  // namespace

TEST_CASE("Filters make the distributions that transformers' logits processors make", "[generate]") {
  const auto golden =
      io::read_json_file(std::filesystem::path(DSFT_SOURCE_DIR) / "test/fixtures/generate/sampling.json");
  const auto history = golden["history"].get<std::vector<std::vector<int32_t>>>();
  REQUIRE(golden["cases"].size() == 6);
  for (const auto& item : golden["cases"]) {
    INFO(item["options"].dump());
    const generate::SamplingOptions options = options_of(item["options"]);
    at::Tensor logits = to_tensor(golden["logits"]);
    if (options.repetition_penalty != 1.0)
      generate::penalise_repetition(logits, {history.begin(), history.end()}, options.repetition_penalty);
    const at::Tensor expected = to_tensor(item["probabilities"]);
    const at::Tensor actual = spread(generate::filter_candidates(logits, options), logits.size(1));
    CHECK((actual - expected).abs().max().item<double>() < 2e-6);
    CHECK(actual.gt(0).equal(expected.gt(0)));
  }
}

TEST_CASE("Draws follow the distribution and never take a token that was filtered away", "[generate]") {
  const at::Tensor logits = torch::tensor({2.0f, 0.0f, 1.0f, -1.0f, 1.5f}).unsqueeze(0);
  const bool filters = GENERATE(false, true);
  generate::SamplingOptions options{.temperature = 1.0, .top_k = filters ? 3 : 0};
  const at::Tensor expected = spread(generate::filter_candidates(logits, options), 5);
  const CounterStream stream(1, 2);
  constexpr int kDraws = 20000;
  std::vector<double> uniforms;
  for (int i = 0; i < kDraws; ++i) uniforms.push_back(stream.uniform(i));
  uniforms.front() = 0.0;
  uniforms.back() = std::nextafter(1.0, 0.0);
  std::vector<double> counts(5, 0.0);
  for (const int32_t token : generate::choose_tokens(logits.expand({kDraws, 5}), {}, uniforms, options))
    counts[token] += 1;
  for (int token = 0; token < 5; ++token) {
    const double p = expected[0][token].item<double>();
    INFO("token " << token << ": " << counts[token] / kDraws << " for " << p);
    if (p == 0)
      CHECK(counts[token] == 0);
    else
      CHECK(std::abs(counts[token] / kDraws - p) < 4.5 * std::sqrt(p * (1 - p) / kDraws));
  }
}

TEST_CASE("generation_config.json decides where nothing else is written", "[generate]") {
  spec::GenerationDefaults defaults;
  defaults.temperature = 0.6;
  defaults.top_k = 20;
  CHECK(generate::sampling_of(defaults).temperature == 0.0);
  defaults.do_sample = true;
  const generate::SamplingOptions options = generate::sampling_of(defaults);
  CHECK(options.temperature == 0.6);
  CHECK(options.top_k == 20);
  CHECK(options.top_p == 1.0);
}
