// What an engine says of the tokens that it chooses, and on what that depends.
#include <ATen/Parallel.h>

#include <algorithm>

#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "generate/engine_requests.h"
#include "kernels/token_log_probs_rows.h"

using namespace dsft;
using namespace dsft::test;

namespace {

// In fp32, with layers whose products a BLAS takes by other kernels for few rows than for many.
std::shared_ptr<model::CausalLm> fp32_model_of_width(int64_t hidden_size) {
  spec::ModelSpec spec = spec::read_model_spec(model_fixture("qwen3"));
  spec.hidden_size = hidden_size;
  spec.intermediate_size = 2 * hidden_size + 24;
  spec.head_dim = 64;
  auto lm = model::build_causal_lm(spec, at::kFloat, at::kCPU);
  const torch::NoGradGuard no_grad;
  torch::manual_seed(11);
  for (auto& [key, parameter] : model::named_parameters_of(*lm))
    parameter.copy_(torch::randn(parameter.sizes()) * 0.05 + (key.ends_with("norm.weight") ? 1.0 : 0.0));
  return lm;
}

// ln softmax(logits / temperature) of an answer's tokens, by one pass over prompt and answer as in training.
std::vector<float> log_probs_in_training(model::CausalLm& lm, const Ids& prompt, const Ids& answer,
                                         double temperature) {
  const torch::NoGradGuard no_grad;
  Ids ids = prompt;
  ids.insert(ids.end(), answer.begin(), answer.end());
  const nn::BlockRunner runner;
  const at::Tensor hidden = lm.hidden_states(make_batch({{ids, ids, 0}}, 0), runner, nullptr);
  const at::Tensor rows =
      hidden.narrow(0, static_cast<int64_t>(prompt.size()) - 1, static_cast<int64_t>(answer.size()));
  const at::Tensor all = torch::log_softmax(lm.logits(rows, runner) / temperature, 1);
  const at::Tensor chosen = torch::tensor(std::vector<int64_t>(answer.begin(), answer.end())).unsqueeze(1);
  const at::Tensor log_probs = all.gather(1, chosen).squeeze(1).contiguous();
  return {log_probs.const_data_ptr<float>(), log_probs.const_data_ptr<float>() + log_probs.numel()};
}

}  // namespace

TEST_CASE("In fp32 on the CPU tokens and log-probabilities depend to the bit on a request alone", "[generate]") {
  auto lm = fp32_model_of_width(GENERATE(40, 256));
  std::vector<int64_t> lengths;
  for (int64_t r = 0; r < 24; ++r) lengths.push_back(r == 9 ? 400 : 1 + r * 29 % 90);
  std::vector<generate::Request> requests = requests_of(random_prompts(lengths), 1);
  for (size_t r = 0; r < requests.size(); ++r) requests[r].max_new_tokens = 5 + static_cast<int64_t>(r * 7 % 30);
  generate::EngineOptions options;
  options.wants_log_probs = true;
  options.sampling = {.temperature = 1.1, .top_p = 0.98};
  const auto expected = generate::generate(*lm, nn::BlockRunner(), requests, options);
  struct Way {
    int64_t max_sequences, prefill_tokens;
    int threads;
  };
  const int threads = at::get_num_threads();
  for (const Way& way : {Way{24, 4096, 2}, Way{1, 4096, 1}, Way{5, 64, 2}, Way{17, 1, 1}}) {
    INFO(way.max_sequences << " sequences, " << way.prefill_tokens << " tokens, " << way.threads << " threads");
    at::set_num_threads(way.threads);
    std::vector<size_t> order(requests.size());
    for (size_t r = 0; r < order.size(); ++r) order[r] = r * 7 % order.size();
    std::vector<generate::Request> shuffled;
    for (const size_t r : order) shuffled.push_back(requests[r]);
    options.max_sequences = way.max_sequences;
    options.prefill_tokens = way.prefill_tokens;
    const auto actual = generate::generate(*lm, nn::BlockRunner(), shuffled, options);
    for (size_t r = 0; r < order.size(); ++r) {
      CHECK(actual[r].token_ids == expected[order[r]].token_ids);
      CHECK(actual[r].log_probs == expected[order[r]].log_probs);
    }
  }
  at::set_num_threads(threads);
}

TEST_CASE("Log-probabilities of sampled tokens are those of the training pass", "[generate]") {
  auto lm = fp32_model_of_width(256);
  const double temperature = GENERATE(0.0, 0.7, 1.0);
  const std::vector<Ids> prompts = random_prompts({1, 40, 64, 7});
  generate::EngineOptions options;
  options.wants_log_probs = true;
  options.sampling = {.temperature = temperature, .top_k = 20, .repetition_penalty = GENERATE(1.0, 1.3)};
  const auto completions = generate::generate(*lm, nn::BlockRunner(), requests_of(prompts, 70), options);
  for (size_t p = 0; p < prompts.size(); ++p) {
    const auto expected =
        log_probs_in_training(*lm, prompts[p], completions[p].token_ids, temperature > 0 ? temperature : 1.0);
    REQUIRE(completions[p].log_probs.size() == 70);
    double worst = 0;
    for (size_t t = 0; t < expected.size(); ++t)
      worst = std::max(worst, std::abs(double{completions[p].log_probs[t]} - double{expected[t]}));
    INFO("prompt " << p);
    CHECK(worst < 1e-5);
  }
  options.wants_log_probs = false;
  for (const auto& completion : generate::generate(*lm, nn::BlockRunner(), requests_of(prompts, 3), options))
    CHECK(completion.log_probs.empty());
}

TEST_CASE(
    "One pass over prompt and answer, read as they were decoded, gives the sampler's log-probabilities to the bit",
    "[generate]") {
  auto lm = fp32_model_of_width(256);
  const std::vector<Ids> prompts = random_prompts({1, 40, 64, 7});
  generate::EngineOptions options;
  options.wants_log_probs = true;
  options.sampling.temperature = 1.0;
  const auto completions = generate::generate(*lm, nn::BlockRunner(), requests_of(prompts, 70), options);
  generate::PagedCache cache(lm->spec(), at::kFloat, at::kCPU, 20);
  cache.take_memory();
  std::vector<Document> documents;
  std::vector<kernels::PrefilledSequence> sequences;
  std::vector<int64_t> rows, targets;
  int64_t first = 0;
  for (size_t p = 0; p < prompts.size(); ++p) {
    Ids ids = prompts[p];
    const Ids& answer = completions[p].token_ids;
    ids.insert(ids.end(), answer.begin(), answer.end() - 1);
    const auto length = static_cast<int64_t>(ids.size()), prompt_length = static_cast<int64_t>(prompts[p].size());
    for (int64_t row = prompt_length - 1; row < length; ++row) rows.push_back(first + row);
    targets.insert(targets.end(), answer.begin(), answer.end());
    first += length;
    documents.push_back({ids, Ids(ids.size(), -100), 0});
    sequences.push_back({length, prompt_length, cache.take_pages(kernels::pages_for(length))});
  }
  const torch::NoGradGuard no_grad;
  const nn::BlockRunner runner;
  cache.begin_prefill(sequences);
  const at::Tensor hidden = lm->hidden_states(make_batch(documents, 0), runner, nullptr, &cache);
  nn::ForwardContext context;
  context.isolates_rows = true;
  at::Tensor logits = lm->logits(hidden.index_select(0, torch::tensor(rows)), runner, context);
  const at::Tensor log_probs = kernels::token_log_probs_rows(logits, torch::tensor(targets), /*makes_gradient=*/false,
                                                             {}, {.temperature = 1.0, .wants_entropies = true})
                                   .log_probs;
  std::vector<float> of_sampler;
  for (const auto& completion : completions)
    of_sampler.insert(of_sampler.end(), completion.log_probs.begin(), completion.log_probs.end());
  CHECK(log_probs.equal(torch::tensor(of_sampler)));
}

TEST_CASE("Each call of an engine sees its adapters as they are, at any number of rows", "[generate]") {
  auto lm = fp32_model_of_width(256);
  const auto adapters = add_adapters(*lm);
  REQUIRE(adapters.size() > 8);
  const std::vector<Ids> prompts = random_prompts({3, 40, 64, 7, 20});
  generate::EngineOptions options;
  options.wants_log_probs = true;
  options.sampling.temperature = 1.0;
  const nn::BlockRunner runner;
  generate::Engine engine(*lm, runner, options, 100);
  options.max_sequences = 2;
  for (int round = 0; round < 2; ++round) {
    const auto completions = engine.generate(requests_of(prompts, 20));
    const auto in_turn = generate::generate(*lm, runner, requests_of(prompts, 20), options);
    for (size_t p = 0; p < prompts.size(); ++p) {
      INFO("round " << round << ", prompt " << p);
      CHECK(in_turn[p].token_ids == completions[p].token_ids);
      CHECK(in_turn[p].log_probs == completions[p].log_probs);
      const auto expected = log_probs_in_training(*lm, prompts[p], completions[p].token_ids, 1.0);
      for (size_t t = 0; t < expected.size(); ++t) CHECK(std::abs(completions[p].log_probs[t] - expected[t]) < 1e-5);
    }
    for (nn::LoraAdapter* adapter : adapters) adapter->b.mul_(-1.5);
  }
}
