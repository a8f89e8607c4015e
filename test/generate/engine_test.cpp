#include "generate/engine.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "io/json.h"
#include "kernels/token_log_probs_rows.h"
#include "support/tiny_model.h"

using namespace dsft;

namespace {

using Ids = std::vector<int32_t>;

std::vector<generate::Request> requests_of(const std::vector<Ids>& prompts, int64_t max_new_tokens) {
  std::vector<generate::Request> requests;
  for (const Ids& prompt : prompts) requests.push_back({prompt, max_new_tokens, requests.size()});
  return requests;
}

std::vector<Ids> answers_of(model::CausalLm& lm, const std::vector<Ids>& prompts,
                            const generate::EngineOptions& options, int64_t max_new_tokens = 20) {
  std::vector<Ids> answers;
  for (const auto& completion :
       generate::generate(lm, nn::BlockRunner(), requests_of(prompts, max_new_tokens), options))
    answers.push_back(completion.token_ids);
  return answers;
}

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

std::vector<Ids> random_prompts(const std::vector<int64_t>& lengths) {
  std::vector<Ids> prompts;
  for (const Document& document : test::random_documents(lengths, 97, 5)) prompts.push_back(document.ids);
  return prompts;
}

}  // namespace

TEST_CASE("Greedy answers of prompts of different lengths in one batch equal transformers' generate", "[generate]") {
  const auto cases = io::read_json_file(std::filesystem::path(DSFT_SOURCE_DIR) / "test/fixtures/generate/greedy.json");
  REQUIRE(cases.size() >= 6);
  for (const auto& golden : cases) {
    INFO(golden["model"].get<std::string>());
    auto lm = test::load_tiny_model(golden["model"].get<std::string>());
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
  auto lm = test::load_tiny_model("qwen3");
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
  auto lm = test::load_tiny_model("llama_plain");
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

namespace {

// In fp32, with layers whose products a BLAS takes by other kernels for few rows than for many.
std::shared_ptr<model::CausalLm> fp32_model_of_width(int64_t hidden_size) {
  spec::ModelSpec spec = spec::read_model_spec(test::model_fixture("qwen3"));
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

namespace {

std::vector<nn::LoraAdapter*> add_adapters(model::CausalLm& lm) {
  std::vector<nn::LoraAdapter*> adapters;
  torch::manual_seed(12);
  for (const auto& module : lm.modules()) {
    auto* linear = module->as<nn::Linear>();
    if (!linear) continue;
    linear->adapter() = nn::LoraAdapter{.a = torch::randn({4, linear->in_features()}) * 0.1,
                                        .b = torch::randn({linear->out_features(), 4}) * 0.1,
                                        .scale = 0.5};
    adapters.push_back(&*linear->adapter());
  }
  return adapters;
}

}  // namespace

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

TEST_CASE("Layers with a sliding window see the same tokens with and without the cache", "[generate]") {
  spec::ModelSpec spec = spec::read_model_spec(test::model_fixture("qwen2"));
  spec.sliding_window = 6;
  spec.uses_sliding_window = {false, true};
  auto lm = model::build_causal_lm(spec, at::kFloat, at::kCPU);
  const auto weights = test::read_tensors(test::model_fixture("qwen2") / "model.safetensors");
  {
    const torch::NoGradGuard no_grad;
    for (auto& [key, parameter] : model::named_parameters_of(*lm)) parameter.copy_(weights.at(key));
  }
  const std::vector<Ids> prompts = random_prompts({4, 15});
  const auto answers = answers_of(*lm, prompts, {}, 16);
  for (size_t p = 0; p < prompts.size(); ++p) CHECK(answers[p] == answer_without_cache(*lm, prompts[p], 16));
}

TEST_CASE("Sequences go on over many pages", "[generate]") {
  auto lm = test::load_tiny_model("qwen3");
  const std::vector<Ids> prompts = random_prompts({60, 5});
  const auto answers = answers_of(*lm, prompts, {}, 90);
  CHECK(answers[0] == answer_without_cache(*lm, prompts[0], 90));
  CHECK(answers[1] == answer_without_cache(*lm, prompts[1], 90));
}

TEST_CASE("Answers that end with their first token leave the engine to those that wait", "[generate]") {
  auto lm = test::load_tiny_model("qwen3");
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
  auto lm = test::load_tiny_model("qwen3");
  const std::vector<Ids> prompts = random_prompts({kernels::kPageTokens, kernels::kPageTokens + 1});
  const int64_t num_tokens = GENERATE(1, 2, 3);
  const auto answers = answers_of(*lm, prompts, {}, num_tokens);
  for (size_t p = 0; p < prompts.size(); ++p) CHECK(answers[p] == answer_without_cache(*lm, prompts[p], num_tokens));
}

TEST_CASE("A prompt longer than a pass over prompts has one of its own", "[generate]") {
  auto lm = test::load_tiny_model("qwen3");
  const std::vector<Ids> prompts = random_prompts({5, 40, 12, 3});
  const auto together = answers_of(*lm, prompts, {}, 6);
  generate::EngineOptions options;
  options.prefill_tokens = GENERATE(1, 10, 39);
  CHECK(answers_of(*lm, prompts, options, 6) == together);
  CHECK(together[1] == answer_without_cache(*lm, prompts[1], 6));
}

TEST_CASE("bf16 models generate, and memory for the cache bounds the sequences decoded together", "[generate]") {
  auto lm = test::load_tiny_model("llama_plain");
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
  auto lm = test::load_tiny_model("qwen3");
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
  auto on_cpu = test::load_tiny_model("qwen3"), on_gpu = test::load_tiny_model("qwen3", at::Device(at::kCUDA, 0));
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
  spec::ModelSpec spec = spec::read_model_spec(test::model_fixture("qwen3"));
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

namespace {

// A model in bf16 whose layers are wide enough for the kernel of few rows, and the same weights in fp32 on the CPU.
struct WideModel {
  std::shared_ptr<model::CausalLm> narrow, exact;

  explicit WideModel(at::Device device) {
    spec::ModelSpec spec = spec::read_model_spec(test::model_fixture(GENERATE(as<std::string>(), "qwen3", "qwen2")));
    spec.hidden_size = 256;
    spec.intermediate_size = 512;
    spec.head_dim = 64;
    spec.uses_sliding_window.clear();
    narrow = model::build_causal_lm(spec, at::kBFloat16, device);
    exact = model::build_causal_lm(spec, at::kFloat, at::kCPU);
    const torch::NoGradGuard no_grad;
    torch::manual_seed(6);
    for (auto& [key, parameter] : model::named_parameters_of(*narrow)) {
      parameter.copy_(torch::randn(parameter.sizes()) * 0.05 + (key.ends_with("norm.weight") ? 1.0 : 0.0));
      exact->named_parameters()[key].copy_(parameter);
    }
  }

  // How far a completion's worst token is from the best one, in deviations of the logits.
  double worst_choice(const Ids& prompt, const Ids& answer) const {
    const torch::NoGradGuard no_grad;
    Ids ids = prompt;
    ids.insert(ids.end(), answer.begin(), answer.end() - 1);
    const Batch batch = make_batch({{ids, Ids(ids.size(), -100), 0}}, 0);
    const nn::BlockRunner runner;
    const at::Tensor rows =
        exact->hidden_states(batch, runner, nullptr).slice(0, static_cast<int64_t>(prompt.size()) - 1);
    const at::Tensor logits = exact->logits(rows, runner);
    const at::Tensor chosen = torch::tensor(std::vector<int64_t>(answer.begin(), answer.end())).unsqueeze(1);
    const at::Tensor behind = std::get<0>(logits.max(1)) - logits.gather(1, chosen).squeeze(1);
    return (behind / logits.std(1)).max().item<double>();
  }
};

void check_wide_model(at::Device device) {
  const WideModel models(device);
  const auto count = static_cast<size_t>(GENERATE(1, 5, 16, 17));
  INFO(count << " sequences");
  std::vector<int64_t> lengths;
  for (size_t r = 0; r < count; ++r) lengths.push_back(1 + static_cast<int64_t>(r * 13 % 70));
  const std::vector<Ids> prompts = random_prompts(lengths);
  const auto requests = requests_of(prompts, 24);
  const nn::BlockRunner runner;
  generate::EngineOptions options;
  options.sampling.temperature = 0;
  generate::Engine engine(*models.narrow, runner, options, 100);
  const auto first = engine.generate(requests);
  for (size_t r = 0; r < count; ++r) CHECK(models.worst_choice(prompts[r], first[r].token_ids) < 0.1);
  for (int round = 0; round < 2; ++round) {  // recorded, launched
    const auto completions = engine.generate(requests);
    for (size_t r = 0; r < count; ++r) CHECK(completions[r].token_ids == first[r].token_ids);
  }
}

}  // namespace

TEST_CASE("In bf16 greedy decoding chooses tokens that fp32 holds for the best, or nearly", "[generate]") {
  check_wide_model(at::kCPU);
}

TEST_CASE("On a GPU steps of few rows choose tokens that fp32 holds for the best, or nearly", "[generate][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  check_wide_model(at::Device(at::kCUDA, 0));
}

TEST_CASE("On a GPU decoding steps make the host wait for nothing but their tokens", "[generate][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  auto lm = test::load_tiny_model("qwen3", at::Device(at::kCUDA, 0));
  std::vector<generate::Request> requests = requests_of(random_prompts({3, 70, 30, 12}), 40);
  requests[0].max_new_tokens = 1;  // it is done when all prompts have been read
  const nn::BlockRunner runner;
  generate::Engine engine(*lm, runner, {}, 110);
  const auto expected = engine.generate(requests);
  std::optional<device::WaitsForbidden> forbidden;
  const auto actual = engine.generate(requests, [&](size_t request, const auto&) {
    if (request == 0) forbidden.emplace();
  });
  REQUIRE(forbidden);
  forbidden.reset();
  for (size_t r = 0; r < requests.size(); ++r) CHECK(actual[r].token_ids == expected[r].token_ids);
}

TEST_CASE("On a GPU recorded steps use adapters as they are at each call, and tell the same log-probabilities",
          "[generate][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  const WideModel models(at::Device(at::kCUDA, 0));
  const auto adapters = add_adapters(*models.narrow);
  for (nn::LoraAdapter* adapter : adapters) {
    adapter->a = adapter->a.to(at::kCUDA);
    adapter->b = adapter->b.to(at::kCUDA);
  }
  const auto requests = requests_of(random_prompts({3, 70, 12}), 24);
  const nn::BlockRunner runner;
  generate::EngineOptions options;
  options.wants_log_probs = true;
  options.max_sequences = 3;
  generate::Engine engine(*models.narrow, runner, options, 100);
  for (int round = 0; round < 4; ++round) {  // as they are, recorded, launched
    const auto completions = engine.generate(requests);
    const auto fresh = generate::Engine(*models.narrow, runner, options, 100).generate(requests);
    for (size_t r = 0; r < requests.size(); ++r) {
      INFO("round " << round << ", request " << r);
      CHECK(completions[r].token_ids == fresh[r].token_ids);
      CHECK(completions[r].log_probs == fresh[r].log_probs);
      CHECK(completions[r].log_probs.size() == 24);
    }
    for (nn::LoraAdapter* adapter : adapters) adapter->b.mul_(-0.9);
  }
}
