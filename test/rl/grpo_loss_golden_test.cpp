// Loss, metrics and gradients beside those of TRL's own code (scripts/goldens/grpo_loss.py).
#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "rl/entropy_mask.h"
#include "rl/policy_scores.h"
#include "rl/rollout_fixture.h"
#include "support/fixtures.h"

using namespace dsft;
using namespace dsft::test;

namespace {

template <typename T>
std::optional<T> optional_of(const nlohmann::json& value) {
  return value.is_null() ? std::nullopt : std::optional<T>(value.get<T>());
}

rl::GrpoConfig config_of(const nlohmann::json& item) {
  const auto& options = item["options"];
  rl::GrpoConfig config;
  config.loss_type = config::from_word<rl::LossType>(item["loss_type"].get<std::string>()).value();
  config.importance_sampling_level =
      config::from_word<rl::ImportanceSamplingLevel>(item["level"].get<std::string>()).value();
  config.temperature = options["temperature"];
  config.beta = options["beta"];
  config.use_bias_correction_kl = options["use_bias_correction_kl"];
  config.epsilon = options["epsilon"];
  config.epsilon_high = optional_of<double>(options["epsilon_high"]);
  config.delta = optional_of<double>(options["delta"]);
  config.off_policy_mask_threshold = optional_of<double>(options["off_policy_mask_threshold"]);
  config.top_entropy_quantile = options["top_entropy_quantile"];
  config.entropy_coef = options["entropy_coef"];
  config.max_completion_length = options["max_completion_length"];
  return config;
}

/// The golden's rows [first, last) as one batch, with the log-probabilities of its set of inputs.
Batch batch_of_rows(const nlohmann::json& rows, const std::map<std::string, at::Tensor>& tensors,
                    const std::string& inputs, size_t first, size_t last) {
  std::vector<Document> documents;
  std::vector<PolicyRow> policy_rows;
  int64_t num_before = 0, num_tokens = 0;
  for (size_t r = 0; r < last; ++r) {
    const auto& row = rows[r];
    Document document;
    document.sample = static_cast<int64_t>(r);
    for (const int32_t id : row["prompt"]) {
      document.ids.push_back(id);
      document.labels.push_back(-100);
    }
    for (size_t i = 0; i < row["completion"].size(); ++i) {
      document.ids.push_back(row["completion"][i]);
      const bool is_policy = row["is_policy"][i];
      document.labels.push_back(is_policy ? document.ids.back() : -100);
      (r < first ? num_before : num_tokens) += is_policy ? 1 : 0;
    }
    if (r < first) continue;
    documents.push_back(document);
    policy_rows.push_back({.advantage = row["advantage"], .is_left_out = row["is_left_out"]});
  }
  Batch batch = make_batch(documents, 0);
  set_policy_rows(batch, policy_rows);
  const auto given = [&](const char* key) {
    const auto found = tensors.find(inputs + "." + key + "_log_probs");
    return found == tensors.end() ? at::Tensor() : found->second.narrow(0, num_before, num_tokens).clone();
  };
  batch.policy->old_log_probs = given("old");
  batch.policy->sampling_log_probs = given("sampling");
  batch.policy->reference_log_probs = given("ref");
  return batch;
}

}  // namespace

TEST_CASE("Every loss type at both levels has TRL's loss, metrics and gradient, however rows are split", "[rl]") {
  const auto golden = nlohmann::json::parse(read_fixture("rl/grpo_loss.json"));
  const auto tensors = read_tensors(fixture_path("rl/grpo_loss.safetensors"));
  const auto lm = load_tiny_model("llama_plain");
  const size_t num_rows = golden["rows"].size();
  REQUIRE(golden["cases"].size() == 62);
  const std::vector<size_t> ends = GENERATE(std::vector<size_t>{6}, std::vector<size_t>{3, 6},
                                            std::vector<size_t>{2, 6}, std::vector<size_t>{1, 2, 3, 4, 5, 6});
  const bool is_padded = GENERATE(false, true);
  REQUIRE(ends.back() == num_rows);
  for (const auto& item : golden["cases"]) {
    INFO(item["name"].get<std::string>() << " in " << ends.size() << " micro-batches" << (is_padded ? ", padded" : ""));
    const rl::GrpoConfig config = config_of(item);
    std::vector<Batch> batches;
    size_t first = 0;
    for (const size_t last : ends) {
      batches.push_back(batch_of_rows(golden["rows"], tensors, item["inputs"], first, last));
      first = last;
    }
    if (config.top_entropy_quantile < 1) {
      std::vector<at::Tensor> entropies;
      for (const Batch& batch : batches)
        entropies.push_back(rl::score_policy(*lm, batch, config.temperature).entropies);
      rl::mask_low_entropy(batches, entropies, config.top_entropy_quantile, *comm::make_single_process_communicator());
    }
    if (is_padded)
      for (Batch& batch : batches) batch = pad_batch(batch, padded_shape(batch));
    const Update update = compute_update(*lm, config, batches);
    const double loss = item["loss"];
    CHECK(std::abs(update.loss - loss) <= 1e-5 * std::max(std::abs(loss), 0.1));
    for (const auto& [name, value] : item["metrics"].items()) {
      INFO(name);
      REQUIRE(update.metrics.contains(name));
      CHECK(std::abs(update.metrics.at(name) - value.get<double>()) <=
            1e-5 * std::max(1.0, std::abs(value.get<double>())));
    }
    const at::Tensor& expected = tensors.at(item["name"].get<std::string>() + ".gradient");
    REQUIRE(update.gradient.sizes() == expected.sizes());
    const double largest = expected.abs().max().item<double>();
    REQUIRE(largest > 0);
    CHECK((update.gradient - expected).abs().max().item<double>() <= 1e-5 * largest);
  }
}
