#include "generate/engine.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "generate/engine_requests.h"
#include "io/json.h"

using namespace dsft;
using namespace dsft::test;

namespace {

// Greedy continuation without a cache: the whole sequence again for each token.
Ids answer_without_cache(model::CausalLm& lm, Ids ids, int64_t count) {
  const torch::NoGradGuard no_grad;
  Ids answer;
  for (int64_t i = 0; i < count; ++i) {
    const Batch batch = make_batch({{ids, ids, 0}}, 0);
    const at::Tensor hidden = lm.hidden_states(batch, nn::BlockRunner(), nullptr);
    const at::Tensor logits = lm.logits(hidden.narrow(0, hidden.size(0) - 1, 1), nn::BlockRunner());
    answer.push_back(static_cast<int32_t>(logits.argmax().item<int64_t>()));
    ids.push_back(answer.back());
  }
  return answer;
}

}  // namespace

TEST_CASE("Greedy answers of prompts of different lengths in one batch equal transformers' generate", "[generate]") {
  const auto cases = io::read_json_file(std::filesystem::path(DSFT_SOURCE_DIR) / "test/fixtures/generate/greedy.json");
  REQUIRE(cases.size() >= 6);
  for (const auto& golden : cases) {
    INFO(golden["model"].get<std::string>());
    auto lm = load_tiny_model(golden["model"].get<std::string>());
    const auto prompts = golden["prompts"].get<std::vector<Ids>>();
    generate::EngineOptions options;
    CHECK(answers_of(*lm, prompts, options) == golden["plain"].get<std::vector<Ids>>());

    options.stop_ids = golden["stop_ids"].get<Ids>();
    CHECK(answers_of(*lm, prompts, options) == golden["stopped"].get<std::vector<Ids>>());

    options.stop_ids.clear();
    options.sampling.repetition_penalty = golden["repetition_penalty"].get<double>();
    CHECK(answers_of(*lm, prompts, options) == golden["penalised"].get<std::vector<Ids>>());
  }
}

TEST_CASE("Waiting requests take the place of finished ones without changing any answer", "[generate]") {
  auto lm = load_tiny_model("qwen3");
  const std::vector<Ids> prompts = random_prompts({3, 17, 1, 30, 8, 2, 11});
  std::vector<generate::Request> requests = requests_of(prompts, 1);
  for (size_t r = 0; r < requests.size(); ++r) requests[r].max_new_tokens = 3 + static_cast<int64_t>(r * 5 % 7);
  generate::EngineOptions options;
  options.sampling = {.temperature = GENERATE(0.0, 1.0), .top_k = 30, .top_p = 0.95};
  const auto together = generate::generate(*lm, nn::BlockRunner(), requests, options);
  options.max_sequences = 2;
  options.prefill_tokens = 16;
  std::vector<size_t> order;
  const auto in_turn = generate::generate(*lm, nn::BlockRunner(), requests, options,
                                          [&](size_t request, const auto&) { order.push_back(request); });
  REQUIRE(order.size() == requests.size());
  for (size_t r = 0; r < requests.size(); ++r) {
    INFO("request " << r);
    CHECK(together[r].token_ids.size() == static_cast<size_t>(requests[r].max_new_tokens));
    CHECK(together[r].finish_reason == generate::FinishReason::kLength);
    CHECK(in_turn[r].token_ids == together[r].token_ids);
  }
}

TEST_CASE("A sample depends on seed and stream alone", "[generate]") {
  auto lm = load_tiny_model("llama_plain");
  const Ids prompt = random_prompts({6})[0];
  generate::EngineOptions options;
  options.sampling.temperature = 1.0;
  const auto sample = [&](uint64_t seed, std::vector<uint64_t> streams) {
    options.seed = seed;
    std::vector<generate::Request> requests;
    for (const uint64_t stream : streams) requests.push_back({prompt, 12, stream});
    std::vector<Ids> answers;
    for (const auto& completion : generate::generate(*lm, nn::BlockRunner(), requests, options))
      answers.push_back(completion.token_ids);
    return answers;
  };
  const auto both = sample(1, {4, 9});
  CHECK(both[0] != both[1]);
  CHECK(sample(1, {9})[0] == both[1]);
  CHECK(sample(2, {9})[0] != both[1]);
}

TEST_CASE("Layers with a sliding window see the same tokens with and without the cache", "[generate]") {
  spec::ModelSpec spec = spec::read_model_spec(model_fixture("qwen2"));
  spec.sliding_window = 6;
  spec.uses_sliding_window = {false, true};
  auto lm = model::build_causal_lm(spec, at::kFloat, at::kCPU);
  const auto weights = read_tensors(model_fixture("qwen2") / "model.safetensors");
  {
    const torch::NoGradGuard no_grad;
    for (auto& [key, parameter] : model::named_parameters_of(*lm)) parameter.copy_(weights.at(key));
  }
  const std::vector<Ids> prompts = random_prompts({4, 15});
  const auto answers = answers_of(*lm, prompts, {}, 16);
  for (size_t p = 0; p < prompts.size(); ++p) CHECK(answers[p] == answer_without_cache(*lm, prompts[p], 16));
}

TEST_CASE("Sequences go on over many pages", "[generate]") {
  auto lm = load_tiny_model("qwen3");
  const std::vector<Ids> prompts = random_prompts({60, 5});
  const auto answers = answers_of(*lm, prompts, {}, 90);
  CHECK(answers[0] == answer_without_cache(*lm, prompts[0], 90));
  CHECK(answers[1] == answer_without_cache(*lm, prompts[1], 90));
}

TEST_CASE("Answers that end with their first token leave the engine to those that wait", "[generate]") {
  auto lm = load_tiny_model("qwen3");
  const std::vector<Ids> prompts = random_prompts({3, 17, 1, 30, 8});
  generate::EngineOptions options;
  options.max_sequences = GENERATE(2, 32);
  const auto longer = answers_of(*lm, prompts, options, 4);
  // by their length
  for (size_t p = 0; const Ids& answer : answers_of(*lm, prompts, options, 1)) CHECK(answer == Ids{longer[p++][0]});
  // by a stop token
  for (const Ids& answer : longer) options.stop_ids.push_back(answer[0]);
  const auto stopped = generate::generate(*lm, nn::BlockRunner(), requests_of(prompts, 20), options);
  for (size_t p = 0; p < prompts.size(); ++p) {
    CHECK(stopped[p].token_ids == Ids{longer[p][0]});
    CHECK(stopped[p].finish_reason == generate::FinishReason::kStop);
  }
}

TEST_CASE("A prompt may end with a page of the cache or begin the next one", "[generate]") {
  auto lm = load_tiny_model("qwen3");
  const std::vector<Ids> prompts = random_prompts({kernels::kPageTokens, kernels::kPageTokens + 1});
  const int64_t num_tokens = GENERATE(1, 2, 3);
  const auto answers = answers_of(*lm, prompts, {}, num_tokens);
  for (size_t p = 0; p < prompts.size(); ++p) CHECK(answers[p] == answer_without_cache(*lm, prompts[p], num_tokens));
}

TEST_CASE("A prompt longer than a pass over prompts has one of its own", "[generate]") {
  auto lm = load_tiny_model("qwen3");
  const std::vector<Ids> prompts = random_prompts({5, 40, 12, 3});
  const auto together = answers_of(*lm, prompts, {}, 6);
  generate::EngineOptions options;
  options.prefill_tokens = GENERATE(1, 10, 39);
  CHECK(answers_of(*lm, prompts, options, 6) == together);
  CHECK(together[1] == answer_without_cache(*lm, prompts[1], 6));
}

TEST_CASE("bf16 models generate, and memory for the cache bounds the sequences decoded together", "[generate]") {
  auto lm = load_tiny_model("llama_plain");
  lm->to(at::kBFloat16);
  generate::EngineOptions options;
  const std::vector<Ids> prompts = random_prompts({4, 9, 2});
  const auto answers = answers_of(*lm, prompts, options, 5);
  REQUIRE(answers[2].size() == 5);
  options.cache_bytes = 1;  // one at a time
  CHECK(answers_of(*lm, prompts, options, 5) == answers);
  CHECK(generate::PagedCache::page_bytes(lm->spec(), at::kBFloat16) == 2 * 2 * 2 * 8 * 2 * kernels::kPageTokens);
}

TEST_CASE("An engine answers call after call, with pages given back also by a call that failed", "[generate]") {
  auto lm = load_tiny_model("qwen3");
  const std::vector<Ids> prompts = random_prompts({70, 5, 40});
  const auto expected = answers_of(*lm, prompts, {}, 30);
  const nn::BlockRunner runner;
  generate::EngineOptions options;
  options.max_sequences = 2;
  options.cache_bytes = 4 * generate::PagedCache::page_bytes(lm->spec(), lm->dtype());
  generate::Engine engine(*lm, runner, options, 100);
  const auto requests = requests_of(prompts, 30);
  CHECK_THROWS_AS(engine.generate(requests, [](size_t, const auto&) { throw std::runtime_error("stop"); }),
                  std::runtime_error);
  for (int round = 0; round < 2; ++round) {
    const auto completions = engine.generate(requests);
    for (size_t r = 0; r < requests.size(); ++r) CHECK(completions[r].token_ids == expected[r]);
  }
}

TEST_CASE("Graphed steps on a GPU choose the tokens that the CPU chooses, as rows come and go", "[generate][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  auto on_cpu = load_tiny_model("qwen3"), on_gpu = load_tiny_model("qwen3", at::Device(at::kCUDA, 0));
  const std::vector<Ids> prompts = random_prompts({3, 70, 1, 30, 8, 2, 11, 5, 64, 9});
  std::vector<generate::Request> requests = requests_of(prompts, 1);
  for (size_t r = 0; r < requests.size(); ++r) requests[r].max_new_tokens = 3 + static_cast<int64_t>(r * 17 % 60);
  generate::EngineOptions options;
  options.max_sequences = GENERATE(4, 32);
  options.sampling = {.temperature = GENERATE(0.0, 1.0), .top_k = 30, .top_p = 0.95, .repetition_penalty = 1.1};
  const auto expected = generate::generate(*on_cpu, nn::BlockRunner(), requests, options);
  const nn::BlockRunner runner;
  generate::Engine engine(*on_gpu, runner, options, 140);
  for (int round = 0; round < 3; ++round) {  // as it is, recorded, launched
    const auto completions = engine.generate(requests);
    for (size_t r = 0; r < requests.size(); ++r) {
      INFO("round " << round << ", request " << r);
      CHECK(completions[r].token_ids == expected[r].token_ids);
    }
  }
}

TEST_CASE("On a GPU heads of 64 go through the kernel of paged attention, in graphs as without", "[generate][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  spec::ModelSpec spec = spec::read_model_spec(model_fixture("qwen3"));
  spec.head_dim = 64;
  spec.sliding_window = 20;
  spec.uses_sliding_window = {true, false};
  auto on_cpu = model::build_causal_lm(spec, at::kFloat, at::kCPU);
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  auto on_gpu = model::build_causal_lm(spec, type, at::Device(at::kCUDA, 0));
  {
    const torch::NoGradGuard no_grad;
    torch::manual_seed(4);
    for (auto& [key, parameter] : model::named_parameters_of(*on_cpu)) {
      parameter.normal_(0.0, 0.2);
      if (parameter.dim() == 1) parameter.add_(1.0);
      on_gpu->named_parameters()[key].copy_(parameter);
    }
  }
  const auto requests = requests_of(random_prompts({3, 64, 1, 65, 8, 130}), 40);
  const auto expected = generate::generate(*on_cpu, nn::BlockRunner(), requests, {});
  const nn::BlockRunner runner;
  generate::EngineOptions options;
  options.max_sequences = 6;
  generate::Engine engine(*on_gpu, runner, options, 170);
  const auto first = engine.generate(requests);
  for (int round = 0; round < 3; ++round) {
    const auto completions = engine.generate(requests);
    for (size_t r = 0; r < requests.size(); ++r) {
      INFO("round " << round << ", request " << r);
      CHECK(completions[r].token_ids == first[r].token_ids);
      if (type == at::kFloat) CHECK(completions[r].token_ids == expected[r].token_ids);
    }
  }
}
