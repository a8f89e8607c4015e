#include "generate/pooled_decoding.h"

#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "io/json.h"
#include "support/tiny_model.h"

namespace dsft::generate {
namespace {

using Ids = std::vector<int32_t>;

std::vector<PooledRequest> requests_of(const nlohmann::ordered_json& golden) {
  std::vector<PooledRequest> requests;
  for (const auto& prompts : golden["requests"]) requests.push_back({prompts.get<std::vector<Ids>>()});
  return requests;
}

std::vector<Ids> ids_of(const std::vector<Completion>& completions) {
  std::vector<Ids> ids;
  for (const Completion& completion : completions) ids.push_back(completion.token_ids);
  return ids;
}

}  // namespace

TEST_CASE("Answers by a pool of hidden states equal transformers' hidden states pooled before its head", "[generate]") {
  const auto cases = io::read_json_file(std::filesystem::path(DSFT_SOURCE_DIR) / "test/fixtures/generate/pooled.json");
  REQUIRE(cases.size() == 3);
  for (const auto& golden : cases) {
    INFO(golden["model"].get<std::string>());
    auto lm = test::load_tiny_model(golden["model"].get<std::string>());
    const auto expected = golden["answers"].get<std::vector<Ids>>();
    PooledOptions options{.weights = golden["weights"].get<std::vector<double>>(),
                          .max_new_tokens = static_cast<int64_t>(expected[0].size()),
                          .stop_ids = {},
                          .ends_answer = {},
                          .on_step = {}};
    CHECK(ids_of(decode_pooled(*lm, nn::BlockRunner(), requests_of(golden), options)) == expected);
    for (const int64_t most_tokens : {1, 12}) {  // a pass for each prompt, and for a few
      options.prefill_tokens = most_tokens;
      CHECK(ids_of(decode_pooled(*lm, nn::BlockRunner(), requests_of(golden), options)) == expected);
    }
    options.max_sequences = 1;  // one request at a time
    CHECK(ids_of(decode_pooled(*lm, nn::BlockRunner(), requests_of(golden), options)) == expected);

    options.stop_ids = {expected[1][4]};
    const auto stopped = decode_pooled(*lm, nn::BlockRunner(), requests_of(golden), options);
    for (size_t i = 0; i < stopped.size(); ++i) {
      const auto end = std::find(expected[i].begin(), expected[i].end(), options.stop_ids[0]);
      const bool is_stopped = end != expected[i].end();
      CHECK(stopped[i].token_ids == Ids(expected[i].begin(), is_stopped ? end + 1 : end));
      CHECK(stopped[i].finish_reason == (is_stopped ? FinishReason::kStop : FinishReason::kLength));
    }
  }
}

}  // namespace dsft::generate
