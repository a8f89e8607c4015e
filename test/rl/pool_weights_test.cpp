#include "rl/pool_weights.h"

#include <torch/optim/adam.h>

#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "io/json.h"
#include "support/require_error.h"
#include "support/temp_dir.h"
#include "support/tiny_model.h"

namespace dsft::rl {
namespace {

EnsembleSettings settings_of(Combine combine, const std::vector<double>& weights) {
  EnsembleSettings settings;
  for (size_t a = 0; a < weights.size(); ++a)
    settings.agents.push_back({std::string(1, static_cast<char>('a' + a)), "Be brief.", weights[a]});
  settings.combination.combine = combine;
  settings.combination.pool_learning_rate = 0.05;
  return settings;
}

void require_near(const std::vector<double>& given, const std::vector<double>& expected, double epsilon) {
  REQUIRE(given.size() == expected.size());
  for (size_t i = 0; i < given.size(); ++i) CHECK(given[i] == Catch::Approx(expected[i]).epsilon(epsilon).margin(1e-6));
}

}  // namespace

TEST_CASE("Loss and gradient of a pool are those of torch's autograd through transformers' hidden states", "[rl]") {
  const auto cases = io::read_json_file(std::filesystem::path(DSFT_SOURCE_DIR) / "test/fixtures/generate/pooled.json");
  const torch::NoGradGuard no_grad;
  for (const auto& golden : cases) {
    INFO(golden["model"].get<std::string>());
    auto lm = test::load_tiny_model(golden["model"].get<std::string>());
    const auto target = golden["target"].get<std::vector<int64_t>>();
    std::vector<at::Tensor> logits;
    for (const auto& prompt : golden["requests"][0]) {
      auto ids = prompt.get<std::vector<int32_t>>();
      const auto first = static_cast<int64_t>(ids.size()) - 1;
      ids.insert(ids.end(), target.begin(), target.end());
      const at::Tensor hidden = lm->hidden_states(make_batch({{ids, ids, 0}}, 0), nn::BlockRunner(), nullptr);
      logits.push_back(lm->logits(hidden.narrow(0, first, static_cast<int64_t>(target.size())), nn::BlockRunner()));
    }
    const at::Tensor parameters = torch::tensor(golden["parameters"].get<std::vector<double>>(), at::kDouble);
    const at::Tensor w = parameters.softmax(0);
    const std::vector<double> weights(w.const_data_ptr<double>(), w.const_data_ptr<double>() + w.numel());
    const PoolLoss given = pool_loss(torch::stack(logits), torch::tensor(target), weights);
    CHECK(given.loss == Catch::Approx(golden["loss"].get<double>()).epsilon(1e-5));
    require_near(given.gradient, golden["gradient"].get<std::vector<double>>(), 1e-4);
  }
}

TEST_CASE("The agents' weights are their shares of the pool, or where it is learned equal at first", "[rl]") {
  CHECK(PoolWeights(settings_of(Combine::kMean, {1, 2, 1})).values() == std::vector<double>{0.25, 0.5, 0.25});
  require_near(PoolWeights(settings_of(Combine::kLearned, {1, 2})).values(), {0.5, 0.5}, 1e-15);
}

TEST_CASE("A pool is learned by torch's Adam, and goes on where it was saved", "[rl]") {
  const std::vector<std::vector<double>> gradients = {
      {0.5, -0.25, -0.25}, {0.1, 0.2, -0.3}, {-0.4, 0.3, 0.1}, {1, -1, 0}};
  at::Tensor parameters = torch::zeros({3}, torch::dtype(torch::kDouble).requires_grad(true));
  torch::optim::Adam adam({parameters}, torch::optim::AdamOptions(0.05));
  PoolWeights pool(settings_of(Combine::kLearned, {1, 1, 1}));
  const test::TempDir folder;
  for (size_t i = 0; i < gradients.size(); ++i) {
    parameters.mutable_grad() = torch::tensor(gradients[i], at::kDouble);
    adam.step();
    pool.update(gradients[i]);
    const at::Tensor expected = parameters.detach().softmax(0);
    require_near(pool.values(), {expected.const_data_ptr<double>(), expected.const_data_ptr<double>() + 3}, 1e-12);
    if (i != 1) continue;
    pool.save(folder.path());
    pool = PoolWeights(settings_of(Combine::kLearned, {1, 1, 1}));
    pool.load(folder.path());
  }
  test::require_error(ErrorKind::kCheckpoint, {"of the agents a, b, c, and grpo.agents has a, b"}, [&] {
    PoolWeights(settings_of(Combine::kLearned, {1, 1})).load(folder.path());
  });
  test::require_error(ErrorKind::kCheckpoint, {"has no ensemble.safetensors"}, [&] {
    PoolWeights(settings_of(Combine::kLearned, {1, 1})).load(folder / "none");
  });
}

}  // namespace dsft::rl
