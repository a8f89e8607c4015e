#include "generate/stop_strings.h"

#include <torch/types.h>

#include "catch_amalgamated.hpp"
#include "generate/engine.h"
#include "support/fixtures.h"
#include "support/require_error.h"
#include "support/tiny_model.h"

using namespace dsft;

namespace {

using Ids = std::vector<int32_t>;

text::Tokenizer tokenizer_of(const std::string& family) {
  return text::Tokenizer::parse(test::read_fixture("text/tokenizer/" + family + ".json"), family);
}

// Tokens up to the one with which the text of all tokens so far has a string in it.
size_t length_by_whole_texts(const text::Tokenizer& tokenizer, const Ids& ids,
                             const std::vector<std::string>& strings) {
  for (size_t n = 1; n <= ids.size(); ++n) {
    const std::string text = tokenizer.decode(std::span(ids).first(n), false);
    for (const std::string& string : strings)
      if (text.find(string) != std::string::npos) return n;
  }
  return ids.size() + 1;
}

size_t length_token_by_token(const text::Tokenizer& tokenizer, const Ids& ids,
                             const std::vector<std::string>& strings) {
  const generate::StopStrings ends_answer(tokenizer, strings);
  for (size_t n = 1; n <= ids.size(); ++n)
    if (ends_answer(std::span(ids).first(n))) return n;
  return ids.size() + 1;
}

}  // namespace

TEST_CASE("A stop string is found with the token that completes it in the whole text", "[generate]") {
  const auto tokenizer = tokenizer_of(GENERATE("gpt2", "llama2", "llama3", "qwen2", "smollm2"));
  const std::vector<std::string> strings = GENERATE(
      std::vector<std::string>{"</response>"}, std::vector<std::string>{"ö", "\n\n"}, std::vector<std::string>{" the"},
      std::vector<std::string>{"e", "never there"}, std::vector<std::string>{"🙂!"});
  const std::string texts[] = {"<response>A plain answer</response> and more",
                               "in the schön, 東京 \n\n of it",
                               "🙂🙂🙂!!",
                               "</respon </response",
                               "no the\n \n\nö",
                               "</response>",
                               " the"};
  for (const std::string& text : texts) {
    INFO(text << " until " << strings[0]);
    const Ids ids = tokenizer.encode(text, false);
    CHECK(length_token_by_token(tokenizer, ids, strings) == length_by_whole_texts(tokenizer, ids, strings));
  }
  // any tokens, which break characters and words where no text would
  torch::manual_seed(2);
  for (int round = 0; round < 20; ++round) {
    const at::Tensor random = torch::randint(std::min<int64_t>(tokenizer.num_ids(), 600), {60}, at::kLong);
    const Ids ids(random.const_data_ptr<int64_t>(), random.const_data_ptr<int64_t>() + 60);
    CHECK(length_token_by_token(tokenizer, ids, strings) == length_by_whole_texts(tokenizer, ids, strings));
  }
}

TEST_CASE("An empty stop string is refused", "[generate]") {
  const auto tokenizer = tokenizer_of("gpt2");
  test::require_error(ErrorKind::kUsage, {"empty"}, [&] { generate::StopStrings(tokenizer, {"a", ""}); });
}

TEST_CASE("An answer ends with the token that completes a stop string", "[generate]") {
  auto lm = test::load_tiny_model("qwen3");
  const auto tokenizer = tokenizer_of("gpt2");
  REQUIRE(tokenizer.num_ids() >= lm->spec().vocab_size);
  std::vector<generate::Request> requests;
  for (const Document& document : test::random_documents({3, 17, 1, 30, 8, 2}, 97, 5))
    requests.push_back({document.ids, 30, requests.size()});
  generate::EngineOptions options;
  options.sampling.temperature = 1.0;
  options.wants_log_probs = true;
  const auto whole = generate::generate(*lm, nn::BlockRunner(), requests, options);
  const std::vector<std::string> strings = {"A", "x", "\"#"};
  options.ends_answer = generate::StopStrings(tokenizer, strings);
  options.max_sequences = GENERATE(2, 6);
  const auto stopped = generate::generate(*lm, nn::BlockRunner(), requests, options);
  size_t num_stopped = 0;
  for (size_t r = 0; r < requests.size(); ++r) {
    INFO("request " << r);
    const size_t length = length_by_whole_texts(tokenizer, whole[r].token_ids, strings);
    const bool is_stopped = length <= whole[r].token_ids.size();
    num_stopped += is_stopped ? 1 : 0;
    const size_t kept = std::min(length, whole[r].token_ids.size());
    CHECK(stopped[r].token_ids ==
          Ids(whole[r].token_ids.begin(), whole[r].token_ids.begin() + static_cast<long>(kept)));
    CHECK(stopped[r].log_probs.size() == kept);
    CHECK(stopped[r].finish_reason == (is_stopped ? generate::FinishReason::kStop : generate::FinishReason::kLength));
  }
  CHECK(num_stopped > 0);
  CHECK(num_stopped < requests.size());
}
