#include <algorithm>
#include <map>

#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "generate/engine.h"
#include "support/require_error.h"
#include "support/tiny_model.h"

using namespace dsft;

namespace {

using Ids = std::vector<int32_t>;

std::vector<Ids> prompts_of(const std::vector<int64_t>& lengths) {
  std::vector<Ids> prompts;
  for (const Document& document : test::random_documents(lengths, 97, 9)) prompts.push_back(document.ids);
  return prompts;
}

// Groups of equal prompts, whose answers have different lengths.
std::vector<generate::Request> groups_of(const std::vector<Ids>& prompts, size_t group_size, int64_t most_new_tokens) {
  std::vector<generate::Request> requests;
  for (const Ids& prompt : prompts)
    for (size_t g = 0; g < group_size; ++g) {
      const auto r = static_cast<int64_t>(requests.size());
      requests.push_back({prompt, 1 + (most_new_tokens + 7 * r) % most_new_tokens, requests.size()});
    }
  return requests;
}

generate::EngineOptions sampling_options() {
  generate::EngineOptions options;
  options.sampling.temperature = 1.2;
  options.wants_log_probs = true;
  return options;
}

void check_equal(const std::vector<generate::Completion>& actual, const std::vector<generate::Completion>& expected) {
  REQUIRE(actual.size() == expected.size());
  for (size_t r = 0; r < actual.size(); ++r) {
    INFO("request " << r);
    CHECK(actual[r].token_ids == expected[r].token_ids);
    CHECK(actual[r].log_probs == expected[r].log_probs);
    CHECK(actual[r].finish_reason == expected[r].finish_reason);
  }
}

// Each request by an engine of its own: nothing is shared and nothing runs short.
std::vector<generate::Completion> one_by_one(model::CausalLm& lm, const std::vector<generate::Request>& requests,
                                             const generate::EngineOptions& options) {
  std::vector<generate::Completion> completions;
  for (const generate::Request& request : requests)
    completions.push_back(generate::generate(lm, nn::BlockRunner(), {request}, options)[0]);
  return completions;
}

// What tensors on a GPU hold now.
int64_t allocated_bytes(at::Device device) {
  device::restart_peak_memory(device);
  return device::peak_memory_bytes(device);
}

}  // namespace

TEST_CASE("A group reads its prompt once, and its answers are those of requests on their own", "[generate]") {
  auto lm = test::load_tiny_model(GENERATE(as<std::string>(), "qwen3", "llama_plain"));
  const std::vector<Ids> prompts = prompts_of({70, 64, 5, 1, 128, 63});
  const auto requests = groups_of(prompts, 5, 90);
  generate::EngineOptions options = sampling_options();
  const auto expected = one_by_one(*lm, requests, options);
  // also where a group comes in over time
  options.max_sequences = GENERATE(1, 3, 4, 30);
  options.prefill_tokens = GENERATE(1, 4096);
  const nn::BlockRunner runner;
  generate::Engine engine(*lm, runner, options, 220);
  for (int64_t round = 1; round <= 2; ++round) {
    check_equal(engine.generate(requests), expected);
    CHECK(engine.counts().num_read_tokens == round * (70 + 64 + 5 + 1 + 128 + 63));
  }
  CHECK(engine.counts().num_put_off == 0);
}

TEST_CASE("Sequences that run out of pages wait and go on as if they never had to", "[generate]") {
  auto lm = test::load_tiny_model("qwen3");
  spec::ModelSpec spec = lm->spec();
  const auto requests = groups_of(prompts_of({70, 3, 40, 64, 100}), 3, 150);
  generate::EngineOptions options = sampling_options();
  options.sampling.repetition_penalty = GENERATE(1.0, 1.2);
  const auto expected = one_by_one(*lm, requests, options);
  // at least 4 pages: the longest request's
  const int64_t num_pages = GENERATE(4, 5, 7, 12, 20);
  INFO(num_pages << " pages");
  options.cache_bytes = num_pages * generate::PagedCache::page_bytes(spec, at::kFloat);
  options.max_sequences = 15;
  const nn::BlockRunner runner;
  generate::Engine engine(*lm, runner, options, 250);
  std::map<size_t, int> calls;
  for (int round = 0; round < 2; ++round)
    check_equal(engine.generate(requests, [&](size_t request, const auto&) { ++calls[request]; }), expected);
  CHECK(calls.size() == requests.size());
  CHECK(std::all_of(calls.begin(), calls.end(), [](const auto& call) { return call.second == 2; }));
  if (num_pages <= 7) CHECK(engine.counts().num_put_off > 0);
}

TEST_CASE("Answers of a model with a sliding window can be put off too", "[generate]") {
  spec::ModelSpec spec = spec::read_model_spec(test::model_fixture("qwen2"));
  spec.sliding_window = 20;
  spec.uses_sliding_window = {false, true};
  auto lm = model::build_causal_lm(spec, at::kFloat, at::kCPU);
  const auto weights = test::read_tensors(test::model_fixture("qwen2") / "model.safetensors");
  {
    const torch::NoGradGuard no_grad;
    for (auto& [key, parameter] : model::named_parameters_of(*lm)) parameter.copy_(weights.at(key));
  }
  const auto requests = groups_of(prompts_of({30, 7, 64, 65}), 4, 120);
  generate::EngineOptions options = sampling_options();
  const auto expected = one_by_one(*lm, requests, options);
  options.cache_bytes = 4 * generate::PagedCache::page_bytes(spec, at::kFloat);
  const nn::BlockRunner runner;
  generate::Engine engine(*lm, runner, options, 190);
  check_equal(engine.generate(requests), expected);
  CHECK(engine.counts().num_put_off > 0);
}

TEST_CASE("Pages are held by all who share them", "[generate]") {
  auto lm = test::load_tiny_model("qwen3");
  generate::PagedCache cache(lm->spec(), at::kFloat, at::kCPU, 6);
  CHECK(cache.num_free_pages() == 5);
  const auto pages = cache.take_pages(3);
  cache.share(std::span(pages).first(2));
  CHECK(cache.num_held_once(pages) == 1);
  cache.give_back(pages);
  CHECK(cache.num_free_pages() == 3);
  cache.give_back(std::span(pages).first(2));
  CHECK(cache.num_free_pages() == 5);
}

TEST_CASE("An engine that gives its memory back between calls answers as one that keeps it", "[generate]") {
  auto lm = test::load_tiny_model("qwen3");
  const auto requests = groups_of(prompts_of({70, 3, 40}), 2, 40);
  generate::EngineOptions options = sampling_options();
  const auto expected = generate::generate(*lm, nn::BlockRunner(), requests, options);
  options.releases_memory = true;
  const nn::BlockRunner runner;
  generate::Engine engine(*lm, runner, options, 120);
  std::vector<at::Tensor> in_between;
  for (int round = 0; round < 3; ++round) {
    check_equal(engine.generate(requests), expected);
    in_between.push_back(torch::ones({1 << 20}));
    CHECK_THROWS_AS(engine.generate(requests, [](size_t, const auto&) { throw std::runtime_error("stop"); }),
                    std::runtime_error);
  }
}

TEST_CASE("A cache for which there is no memory is refused with its size", "[generate]") {
  auto lm = test::load_tiny_model("qwen3");
  const int64_t free = device::free_memory_bytes(at::kCPU);
  const int64_t too_many = 2 * free / generate::PagedCache::page_bytes(lm->spec(), at::kFloat);
  generate::PagedCache cache(lm->spec(), at::kFloat, at::kCPU, too_many);
  test::require_error(ErrorKind::kDevice, {"keys and values", "GiB are free"}, [&] { cache.take_memory(); });
  // what an engine may have at most is a share of what is free, whatever cache_bytes says
  generate::EngineOptions options;
  options.max_sequences = too_many;
  options.cache_bytes = std::numeric_limits<int64_t>::max();
  options.free_memory_share = 1e-4;
  const nn::BlockRunner runner;
  const auto requests = groups_of(prompts_of({3}), 2, 5);
  options.max_sequences = 1 << 16;
  generate::Engine engine(*lm, runner, options, 20);
  CHECK(engine.generate(requests).size() == 2);
}

TEST_CASE("On a GPU groups, short memory and a cache that moves leave greedy answers as they are", "[generate][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  const at::Device gpu(at::kCUDA, 0);
  auto on_cpu = test::load_tiny_model("qwen3"), on_gpu = test::load_tiny_model("qwen3", gpu);
  const auto requests = groups_of(prompts_of({70, 3, 40, 64, 100}), 3, 60);
  generate::EngineOptions options;
  options.sampling.temperature = GENERATE(0.0, 1.0);
  options.wants_log_probs = true;
  const auto expected = one_by_one(*on_cpu, requests, options);
  const int64_t page_bytes = generate::PagedCache::page_bytes(on_cpu->spec(), at::kFloat);
  options.cache_bytes = GENERATE(7, 1000) * page_bytes;
  options.max_sequences = 15;
  options.releases_memory = GENERATE(false, true);
  const nn::BlockRunner runner;
  generate::Engine engine(*on_gpu, runner, options, 170);
  std::vector<at::Tensor> in_between;
  for (int round = 0; round < 5; ++round) {
    int64_t bytes_within = 0;
    const auto completions =
        engine.generate(requests, [&](size_t, const auto&) { bytes_within = allocated_bytes(gpu); });
    // of keys and values at least
    if (options.releases_memory) CHECK(bytes_within - allocated_bytes(gpu) >= 7 * page_bytes);
    for (size_t r = 0; r < requests.size(); ++r) {
      INFO("round " << round << ", request " << r);
      CHECK(completions[r].token_ids == expected[r].token_ids);
      REQUIRE(completions[r].log_probs.size() == expected[r].log_probs.size());
      for (size_t t = 0; t < expected[r].log_probs.size(); ++t)
        CHECK(std::abs(completions[r].log_probs[t] - expected[r].log_probs[t]) < 1e-3);
    }
    // takes the cache's place, so that it has to move
    if (options.releases_memory && round % 2 == 1)
      in_between.push_back(torch::ones({1 << 21}, at::TensorOptions(at::kCUDA)));
  }
}
