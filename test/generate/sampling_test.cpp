#include "generate/sampling.h"

#include <nlohmann/json.hpp>

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

// Probabilities that draws follow.
at::Tensor distribution(const at::Tensor& logits, const generate::SamplingOptions& options,
                        const at::Tensor& seen = {}) {
  const at::Tensor weights = kernels::sampling_weights(logits, options, seen).to(at::kDouble);
  return (weights / weights.sum(1, true)).to(at::kFloat);
}

at::Tensor seen_bits(const std::vector<std::vector<int32_t>>& histories, int64_t vocab_size) {
  at::Tensor bits = torch::zeros({static_cast<int64_t>(histories.size()), (vocab_size + 31) / 32}, at::kInt);
  for (size_t row = 0; row < histories.size(); ++row)
    for (const int32_t token : histories[row])
      bits[static_cast<int64_t>(row)][token / 32].bitwise_or_(static_cast<int32_t>(uint32_t{1} << (token % 32)));
  return bits;
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
    const at::Tensor logits = to_tensor(golden["logits"]), expected = to_tensor(item["probabilities"]);
    const at::Tensor seen = options.repetition_penalty != 1.0 ? seen_bits(history, logits.size(1)) : at::Tensor();
    const at::Tensor actual = distribution(logits, options, seen);
    CHECK((actual - expected).abs().max().item<double>() < 2e-6);
    CHECK(actual.gt(0).equal(expected.gt(0)));
  }
}

TEST_CASE("Draws follow the distribution and never take a token that was filtered away", "[generate]") {
  const at::Tensor logits = torch::tensor({2.0f, 0.0f, 1.0f, -1.0f, 1.5f}).unsqueeze(0);
  const bool filters = GENERATE(false, true);
  const generate::SamplingOptions options{.temperature = 1.0, .top_k = filters ? 3 : 0};
  const at::Tensor expected = distribution(logits, options);
  constexpr int64_t kDraws = 20000;
  at::Tensor seen;
  const at::Tensor tokens =
      kernels::sample_tokens(logits.expand({kDraws, 5}), options,
                             {1, 2, torch::zeros({kDraws}, at::kLong), torch::arange(kDraws, at::kLong)}, seen);
  for (int64_t token = 0; token < 5; ++token) {
    const double p = expected[0][token].item<double>();
    const auto count = tokens.eq(token).sum().item<int64_t>();
    INFO("token " << token << ": " << static_cast<double>(count) / kDraws << " for " << p);
    if (p == 0)
      CHECK(count == 0);
    else
      CHECK(std::abs(static_cast<double>(count) / kDraws - p) < 4.5 * std::sqrt(p * (1 - p) / kDraws));
  }
}

TEST_CASE("A chosen token is seen from then on, and of equal logits the first is the greedy choice", "[generate]") {
  const at::Tensor logits = torch::tensor({0.0f, 3.0f, 3.0f, -1.0f}).expand({2, 4});
  const kernels::DrawKeys keys{1, 2, torch::zeros({2}, at::kLong), torch::zeros({2}, at::kLong)};
  at::Tensor seen = seen_bits({{}, {1, 2}}, 4);
  const generate::SamplingOptions options{.repetition_penalty = 2.0};
  const at::Tensor tokens = kernels::sample_tokens(logits, options, keys, seen);
  CHECK(tokens.equal(torch::tensor({1, 1}, at::kLong)));
  CHECK(seen.equal(torch::tensor({2, 6}, at::kLong).to(at::kInt).view({2, 1})));
  // 3 / 2 for what was seen: the other 3 is ahead in the first row
  CHECK(kernels::sample_tokens(logits, options, keys, seen).equal(torch::tensor({2, 1}, at::kLong)));
}

TEST_CASE("Log-probabilities are those of the whole distribution, whatever penalty and filters leave", "[generate]") {
  torch::manual_seed(5);
  const auto options = GENERATE(generate::SamplingOptions{}, generate::SamplingOptions{.temperature = 0.7},
                                generate::SamplingOptions{.temperature = 1.3, .top_k = 3, .top_p = 0.9, .min_p = 0.05},
                                generate::SamplingOptions{.repetition_penalty = 1.5},
                                generate::SamplingOptions{.temperature = 0.9, .repetition_penalty = 2.0});
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  const int64_t rows = 40, vocab_size = 1001;
  const at::Tensor logits = (torch::randn({rows, vocab_size}) * 4).to(type);
  const kernels::DrawKeys keys{1, 2, torch::arange(rows, at::kLong), torch::arange(rows, at::kLong)};
  const auto fresh_bits = [&]() -> at::Tensor {
    if (options.repetition_penalty == 1.0) return {};
    return seen_bits(std::vector<std::vector<int32_t>>(rows, {3, 500, 1000}), vocab_size);
  };
  at::Tensor seen = fresh_bits(), seen_without = fresh_bits();
  const at::Tensor log_probs = torch::empty({rows});
  const at::Tensor tokens = kernels::sample_tokens(logits, options, keys, seen, log_probs);
  CHECK(tokens.equal(kernels::sample_tokens(logits, options, keys, seen_without)));
  const double temperature = options.temperature > 0 ? options.temperature : 1.0;
  const at::Tensor of_all = torch::log_softmax(logits.to(at::kDouble) / temperature, 1);
  CHECK((log_probs - of_all.gather(1, tokens.unsqueeze(1)).squeeze(1)).abs().max().item<double>() < 5e-6);
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
