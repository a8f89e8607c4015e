// Models in bf16 that are wide enough for the kernels of decoding.
#include <algorithm>

#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "generate/engine_requests.h"

using namespace dsft;
using namespace dsft::test;

namespace {

// A model in bf16 whose layers are wide enough for the kernel of few rows, and the same weights in fp32 on the CPU.
struct WideModel {
  std::shared_ptr<model::CausalLm> narrow, exact;

  explicit WideModel(at::Device device) {
    spec::ModelSpec spec = spec::read_model_spec(model_fixture(GENERATE(as<std::string>(), "qwen3", "qwen2")));
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
  auto lm = load_tiny_model("qwen3", at::Device(at::kCUDA, 0));
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
