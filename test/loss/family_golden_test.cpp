#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "loss/loss.h"
#include "support/tiny_model.h"

using namespace dsft;

namespace {

double relative_error(const at::Tensor& actual, const at::Tensor& expected) {
  return (actual - expected).abs().max().item<double>() / std::max(1e-3, expected.abs().max().item<double>());
}

void check_family(const std::string& name, bool recompute, at::Device device) {
  INFO(name << (recompute ? " with recompute" : ""));
  auto lm = test::load_tiny_model(name, device);
  const auto golden = test::read_tensors(test::model_fixture(name) / "golden.safetensors");
  const at::Tensor bounds = golden.at("boundaries"), ids = golden.at("ids"), labels = golden.at("labels");
  std::vector<Document> documents;
  for (int64_t d = 0; d + 1 < bounds.numel(); ++d) {
    Document document;
    for (int64_t i = bounds[d].item<int64_t>(); i < bounds[d + 1].item<int64_t>(); ++i) {
      document.ids.push_back(static_cast<int32_t>(ids[i].item<int64_t>()));
      document.labels.push_back(static_cast<int32_t>(labels[i].item<int64_t>()));
    }
    documents.push_back(document);
  }
  const Batch batch = make_batch(documents, 0).to(device);
  const nn::BlockRunner runner(recompute ? nn::BlockRunner::Keep::kInput : nn::BlockRunner::Keep::kGraph);
  {
    torch::NoGradGuard no_grad;
    const at::Tensor logits = lm->logits(lm->hidden_states(batch, runner, nullptr), runner);
    CHECK(relative_error(logits.cpu(), golden.at("logits")) < 1e-5);
  }
  for (at::Tensor& parameter : lm->parameters()) parameter.requires_grad_(true);
  const loss::CausalLmLoss causal;
  const double count = causal.counts({batch})[0];
  const at::Tensor hidden = lm->hidden_states(batch, runner, nullptr);
  const auto result = causal.compute(*lm, hidden, batch, runner, nullptr);
  const at::Tensor loss = result.terms[0].value / count;
  CHECK(relative_error(loss.detach().cpu(), golden.at("loss")[0]) < 1e-5);
  loss.backward();
  for (const auto& [key, parameter] : model::named_parameters_of(*lm)) {
    INFO(key);
    REQUIRE(parameter.grad().defined());
    CHECK(relative_error(parameter.grad().cpu(), golden.at("grad." + key)) < 1e-4);
  }
}

}  // namespace

TEST_CASE("Logits, loss and every gradient of each family equal transformers'", "[loss]") {
  const auto name = GENERATE("llama_plain", "llama_tied_bias", "llama_rope_linear", "llama_rope_dynamic",
                             "llama_rope_yarn", "llama_rope_yarn_mscale", "llama_rope_yarn_factor", "llama_rope_llama3",
                             "qwen2", "qwen2_sliding", "qwen3", "qwen3_bias");
  check_family(name, GENERATE(false, true), at::kCPU);
}

TEST_CASE("On a GPU each family gives the same logits, loss and gradients", "[loss][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  const auto name =
      GENERATE("llama_tied_bias", "llama_rope_dynamic", "llama_rope_llama3", "qwen2_sliding", "qwen3_bias");
  check_family(name, GENERATE(false, true), at::Device(at::kCUDA, 0));
}
