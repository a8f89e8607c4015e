// A policy's passes that compute what the sampler did, to the bit.
#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "generate/engine.h"
#include "rl/grpo_loss.h"
#include "rl/policy_scores.h"
#include "support/on_gpu.h"
#include "support/tiny_model.h"

using namespace dsft;
using namespace dsft::test;

namespace {

constexpr double kTemperature = 0.8;
constexpr int64_t kMostNewTokens = 70;

// With heads that decoding has kernels for, and adapters beside every layer of it.
std::shared_ptr<model::CausalLm> make_policy(const std::string& family, at::ScalarType dtype, at::Device device) {
  spec::ModelSpec spec = spec::read_model_spec(model_fixture(family));
  spec.hidden_size = 192;
  spec.intermediate_size = 424;
  spec.head_dim = 64;
  auto lm = model::build_causal_lm(spec, dtype, device);
  const torch::NoGradGuard no_grad;
  torch::manual_seed(11);
  for (auto& [key, parameter] : model::named_parameters_of(*lm))
    parameter.copy_(torch::randn(parameter.sizes()) * 0.05 + (key.ends_with("norm.weight") ? 1.0 : 0.0));
  for (const auto& module : lm->modules()) {
    auto* linear = module->as<nn::Linear>();
    if (!linear || linear->out_features() == spec.vocab_size) continue;
    linear->adapter() = nn::LoraAdapter{.a = (torch::randn({4, linear->in_features()}) * 0.1).to(device),
                                        .b = (torch::randn({linear->out_features(), 4}) * 0.1).to(device),
                                        .scale = 0.5};
    linear->adapter()->a.requires_grad_(true);
    linear->adapter()->b.requires_grad_(true);
  }
  return lm;
}

struct Sampled {
  std::vector<std::vector<int32_t>> prompts;
  std::vector<generate::Completion> completions;
};

// Pairs of prompts are equal, so that they share pages.
Sampled sample(model::CausalLm& lm, generate::EngineOptions options) {
  Sampled sampled;
  for (const Document& document : random_documents({1, 40, 64, 7, 129, 63}, 97, 5))
    for (int copy = 0; copy < 2; ++copy) sampled.prompts.push_back(document.ids);
  std::vector<generate::Request> requests;
  for (const auto& prompt : sampled.prompts)
    requests.push_back({prompt, kMostNewTokens - static_cast<int64_t>(requests.size()), requests.size()});
  options.sampling.temperature = kTemperature;
  options.wants_log_probs = true;
  options.isolates_rows = true;
  sampled.completions = generate::generate(lm, nn::BlockRunner(), requests, options);
  return sampled;
}

// These rows as one micro-batch.
Batch batch_of(const Sampled& sampled, const std::vector<size_t>& rows, bool is_as_decoded = true) {
  std::vector<Document> documents;
  std::vector<PolicyRow> policy_rows;
  std::vector<float> log_probs;
  std::vector<int64_t> prompt_lengths;
  for (const size_t row : rows) {
    const generate::Completion& completion = sampled.completions[row];
    Document document{sampled.prompts[row], std::vector<int32_t>(sampled.prompts[row].size(), -100), 0};
    document.ids.insert(document.ids.end(), completion.token_ids.begin(), completion.token_ids.end());
    document.labels.insert(document.labels.end(), completion.token_ids.begin(), completion.token_ids.end());
    documents.push_back(document);
    policy_rows.push_back({row % 2 == 0 ? 1.0f : -0.5f, false});
    log_probs.insert(log_probs.end(), completion.log_probs.begin(), completion.log_probs.end());
    prompt_lengths.push_back(static_cast<int64_t>(sampled.prompts[row].size()));
  }
  Batch batch = make_batch(documents, 0);
  set_policy_rows(batch, policy_rows);
  batch.policy->sampling_log_probs = torch::tensor(log_probs);
  if (is_as_decoded) batch.policy->prompt_lengths = prompt_lengths;
  return batch;
}

struct Pass {
  double gap = 0;  // the largest, to the sampler
  at::Tensor gradients;
};

Pass run_pass(model::CausalLm& lm, const Batch& on_host, nn::BlockRunner::Keep keep) {
  rl::GrpoConfig config;
  config.temperature = kTemperature;
  const rl::GrpoLoss loss(config, lm.device(), /*compares_sampler=*/true);
  const nn::BlockRunner runner(keep);
  const model::TrainingMode mode{7};
  const Batch batch = on_host.to(lm.device());
  const auto result = loss.compute(lm, lm.hidden_states(batch, runner, &mode), batch, runner, &mode);
  result.terms[0].value.backward();
  Pass pass;
  for (const loss::Extreme& extreme : result.extremes)
    if (extreme.name == "sampling/sampling_logp_difference/max") pass.gap = extreme.value.item<double>();
  std::vector<at::Tensor> gradients;
  for (const auto& module : lm.modules()) {
    auto* linear = module->as<nn::Linear>();
    if (!linear || !linear->adapter()) continue;
    for (at::Tensor* adapter : {&linear->adapter()->a, &linear->adapter()->b}) {
      gradients.push_back(adapter->grad().to(at::kCPU, at::kDouble).flatten());
      adapter->mutable_grad().reset();
    }
  }
  pass.gradients = torch::cat(gradients);
  return pass;
}

void check_policy(const std::string& family, at::ScalarType dtype, at::Device device, double bound) {
  INFO(family << ", " << c10::toString(dtype));
  const auto lm = make_policy(family, dtype, device);
  const Sampled sampled = sample(*lm, {});
  generate::EngineOptions few;
  few.max_sequences = 3;
  few.prefill_tokens = 70;
  const Sampled in_turn = sample(*lm, few);
  std::vector<size_t> all;
  for (size_t row = 0; row < sampled.completions.size(); ++row) {
    INFO("request " << row);
    CHECK(in_turn.completions[row].token_ids == sampled.completions[row].token_ids);
    CHECK(in_turn.completions[row].log_probs == sampled.completions[row].log_probs);
    all.insert(all.begin(), row);
  }
  const Batch whole = batch_of(sampled, all);
  const Pass plain = run_pass(*lm, batch_of(sampled, all, /*is_as_decoded=*/false), nn::BlockRunner::Keep::kGraph);
  CHECK(plain.gap < 0.2);
  if (dtype != at::kFloat) CHECK(plain.gap > 0);
  for (const auto keep :
       {nn::BlockRunner::Keep::kGraph, nn::BlockRunner::Keep::kInput, nn::BlockRunner::Keep::kSelected}) {
    const Pass pass = run_pass(*lm, whole, keep);
    CHECK(pass.gap == 0);
    const double distance =
        (pass.gradients - plain.gradients).norm().item<double>() / plain.gradients.norm().item<double>();
    CHECK(distance < bound);
  }
  for (const std::vector<size_t>& rows : {std::vector<size_t>{3}, {0, 7, 2}, {10, 11}})
    CHECK(run_pass(*lm, batch_of(sampled, rows), nn::BlockRunner::Keep::kGraph).gap == 0);
  // without a gradient, as old log-probabilities are made
  CHECK(rl::score_policy(*lm, whole.to(device), kTemperature).log_probs.cpu().equal(whole.policy->sampling_log_probs));
}

}  // namespace

TEST_CASE("Passes that read answers as they were decoded give the sampler's log-probabilities to the bit", "[rl]") {
  const std::string family = GENERATE("qwen2", "qwen3", "llama_plain");
  check_policy(family, at::kFloat, at::kCPU, 1e-4);
  check_policy(family, at::kBFloat16, at::kCPU, 5e-2);
}

TEST_CASE("On a GPU passes that read answers as they were decoded give the sampler's log-probabilities to the bit",
          "[rl][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  const std::string family = GENERATE("qwen2", "qwen3", "llama_plain");
  check_policy(family, at::kBFloat16, kGpu, 5e-2);
  check_policy(family, at::kHalf, kGpu, 1e-2);
  check_policy(family, at::kFloat, kGpu, 1e-3);
}
