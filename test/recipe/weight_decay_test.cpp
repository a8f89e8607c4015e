// transformers decays neither biases nor weights of norms (Trainer.get_decay_parameter_names).
#include "catch_amalgamated.hpp"
#include "comm/single_process_communicator.h"
#include "lora/adapters.h"
#include "loss/loss.h"
#include "recipe/build_parts.h"
#include "support/tiny_model.h"

using namespace dsft;

namespace {

constexpr double kRate = 0.01;

/// All weights after one update with this decay.
std::map<std::string, at::Tensor> update_once(const std::string& name, double weight_decay) {
  auto lm = test::load_tiny_model(name);
  for (at::Tensor& parameter : lm->parameters()) parameter.requires_grad_(true);
  const auto communicator = comm::make_single_process_communicator();
  recipe_config::RecipeConfig recipe;
  recipe.training.weight_decay = weight_decay;
  const Logger quiet(0, true);
  train::RunContext context{*communicator, at::Device(at::kCPU), 42, "", quiet};
  const auto optimizer = recipe::build_optimizer(recipe, /*schedule=*/{}, *lm, context);
  const Batch batch = make_batch(test::random_documents({13, 7}, lm->spec().vocab_size, 3), 0);
  const nn::BlockRunner runner;
  const at::Tensor hidden = lm->hidden_states(batch, runner, nullptr);
  optimizer->backward(loss::CausalLmLoss().compute(*lm, hidden, batch, runner, nullptr).terms[0].value, true);
  optimizer->clip_and_step(at::full({1}, kRate, at::kDouble));
  std::map<std::string, at::Tensor> weights;
  for (const auto& [key, parameter] : model::named_parameters_of(*lm)) weights[key] = parameter.detach().clone();
  return weights;
}

}  // namespace

TEST_CASE("Weight decay leaves biases and weights of norms alone", "[recipe]") {
  const std::string name = GENERATE("qwen2", "qwen3");  // biases; norms of queries and keys
  const auto before = test::read_tensors(test::model_fixture(name) / "model.safetensors");
  const auto plain = update_once(name, 0), decayed = update_once(name, 0.5);
  int64_t num_left_alone = 0;
  for (const auto& [key, weight] : decayed) {
    INFO(key);
    const bool is_exempt = key.ends_with(".bias") || key.ends_with("norm.weight");
    num_left_alone += is_exempt;
    const at::Tensor expected = is_exempt ? plain.at(key) : plain.at(key) - kRate * 0.5 * before.at(key);
    CHECK((weight - expected).abs().max().item<double>() < 1e-6);
  }
  CHECK(num_left_alone > 4);
}
