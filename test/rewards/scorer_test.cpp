#include "rewards/scorer.h"

#include <stdlib.h>

#include <thread>

#include "base/stopwatch.h"
#include "catch_amalgamated.hpp"
#include "rewards/request_size.h"
#include "rewards/reward_program.h"
#include "rewards/scoring.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using namespace dsft;
using namespace dsft::rewards;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("Built-in functions and programs fill one row for each sample, in the order of the indices", "[rewards]") {
  RewardConfig built_in{"unique_characters", {}, "", BuiltInConfig(UniqueCharactersConfig{})};
  Scorer scorer({program("length", 20, 3), built_in}, {}, Logger(0, true));
  scorer.wait_until_ready();
  scorer.submit(1, 40, samples_of({"aa", "ab", "abcd"}));
  scorer.submit(1, 0, samples_of(std::vector<std::string>(37, "aaaaa")));
  scorer.submit(1, 37, {});
  const Scores scores = scorer.collect();
  REQUIRE(scores.indices.size() == 40);
  CHECK(scores.indices.front() == 0);
  CHECK(scores.indices.back() == 42);
  CHECK(scores.rewards[36] == Values{5.0, 0.2});
  CHECK(scores.rewards[37] == Values{2.0, 0.5});
  CHECK(scores.rewards[39] == Values{4.0, 1.0});
  CHECK(scores.failures.empty());
  CHECK(scorer.collect().indices.empty());
}

TEST_CASE("Submitting waits for nothing, and a wait ends with its time", "[rewards]") {
  Scorer scorer({program("slow")}, {}, Logger(0, true));
  scorer.wait_until_ready();
  const Stopwatch watch;
  for (int64_t i = 0; i < 3; ++i) scorer.submit(1, i, samples_of({"abc"}));
  CHECK(watch.seconds() < 0.2);
  CHECK_FALSE(scorer.wait_for(20ms));
  CHECK(scorer.wait_for(20s));
  CHECK(column(scorer.collect(), 0) == Values{3.0, 3.0, 3.0});
  CHECK(watch.seconds() > 0.5);  // a request, and one for what came in meanwhile
}

TEST_CASE("A program is kept alive over steps and gets its request whole", "[rewards]") {
  const test::TempDir folder;
  Scorer scorer({program("count"), program("request", 20, 1, (folder / "request").string())}, {}, Logger(0, true));
  for (int64_t step = 1; step <= 3; ++step) {
    Sample sample = samples_of({std::string(300'000, 'x')})[0];
    sample.completion = nlohmann::ordered_json::array({{{"role", "assistant"}, {"content", sample.text}}});
    sample.completion_ids = {1, 2, 3};
    scorer.submit(step, 0, {sample});
    CHECK(column(scorer.collect(), 0) == Values{static_cast<double>(step)});
  }
  const auto request = nlohmann::json::parse(test::read_file(folder / "request"));
  CHECK(request["id"] == 2);
  CHECK(request["step"] == 3);
  CHECK(request["prompts"] == nlohmann::json{"p"});
  CHECK(request["completions"][0][0]["content"].get<std::string>().size() == 300'000);
  CHECK(request["completion_ids"] == nlohmann::json{{1, 2, 3}});
  CHECK(request["columns"]["answer"][0].get<std::string>().size() == 300'000);
}

TEST_CASE("Null is a reward that does not apply, and no failure", "[rewards]") {
  const Scores scores = score({program("nulls")}, {"a", "b"});
  CHECK(column(scores, 0) == Values{std::nullopt, std::nullopt});
  CHECK(scores.failures.empty());
}

TEST_CASE("A reply in pieces is one reply, and the last line of a program that ends counts", "[rewards]") {
  CHECK(column(score({program("partial_lines")}, {"abc"}), 0) == Values{3.0});
  Scorer scorer({program("last_words")}, {}, Logger(0, true));
  for (int64_t step = 0; step < 2; ++step) {  // the second by a new process
    scorer.submit(step, 0, samples_of({"abc"}));
    CHECK(column(scorer.collect(), 0) == Values{3.0});
    for (int i = 0; i < 500 && has_reward_processes(); ++i) std::this_thread::sleep_for(10ms);
  }
}

TEST_CASE("A program may write its first line as soon as it runs", "[rewards]") {
  const RewardConfig quick{"quick", {}, "", ProgramConfig{R"(echo '{"protocol": 1, "name": "x"}'; cat)", 20, 8}};
  for (int i = 0; i < 10; ++i) Scorer({quick}, {}, Logger(0, true)).wait_until_ready();
  const RewardConfig talks{
      "talks", {}, "", ProgramConfig{R"(printf '{"protocol": 1, "name": "x"}\nhello\n'; cat)", 20}};
  test::require_error(ErrorKind::kData, {"wrote `hello` behind its first line"},
                      [&] { Scorer({talks}, {}, Logger(0, true)).wait_until_ready(); });
}

TEST_CASE("What has come in while a program was busy is one request, by its pace", "[rewards]") {
  const test::TempDir folder;
  // gives each sample the size of its request
  const std::string file = folder
                               .write("size.py",
                                      "import json, sys, time\n"
                                      "print(json.dumps({'protocol': 1, 'name': 'size'}), flush=True)\n"
                                      "for line in sys.stdin:\n"
                                      "  r = json.loads(line)\n"
                                      "  size = len(r['completions'])\n"
                                      "  time.sleep(0.02 + size * float(sys.argv[1]))\n"
                                      "  print(json.dumps({'id': r['id'], 'rewards': [size] * size}), flush=True)\n")
                               .string();
  const auto sizes = [&](const char* seconds, double timeout_s) {
    const RewardConfig reward{"size", {}, "", ProgramConfig{"python3 " + file + " " + seconds, timeout_s, 1}};
    Scorer scorer({reward}, {}, Logger(0, true));
    scorer.wait_until_ready();
    for (int64_t i = 0; i < 60; ++i) scorer.submit(1, i, samples_of({"a"}));
    const Scores scores = scorer.collect();
    CHECK(scores.failures.empty());
    Values values = column(scores, 0);
    std::vector<double> sizes;
    for (size_t i = 0; i < values.size(); i += static_cast<size_t>(sizes.back())) sizes.push_back(*values[i]);
    return sizes;
  };
  const std::vector<double> fast = sizes("0", 20);  // 1, 2, 4, 8, 16, 29 where the machine has nothing else to do
  CHECK(fast.front() == 1);
  CHECK(fast.size() < 20);
  // a quarter of 2 s is enough for no more than 10 of 0.05 s
  const std::vector<double> slow = sizes("0.05", 2);
  CHECK(slow.front() == 1);
  CHECK(*std::max_element(slow.begin(), slow.end()) > 3);
  CHECK(*std::max_element(slow.begin(), slow.end()) <= 10);
}

TEST_CASE("For how many samples a program is asked follows its answers", "[rewards]") {
  RequestSize size(8);  // a quarter: 2 s
  CHECK(size.most() == 1);
  size.note_answer(1, 0.01);
  CHECK(size.most() == 2);
  size.note_answer(2, 0.01);
  size.note_answer(1, 0.01);  // no more were there
  CHECK(size.most() == 4);
  size.note_answer(4, 1.6);  // 0.4 s each
  CHECK(size.most() == 5);
  size.note_answer(5, 50);
  CHECK(size.most() == 1);
  size.note_answer(1, 0);
  CHECK(size.most() == 10);
  size.note_failure();
  CHECK(size.most() == 1);
}

TEST_CASE("A program sees no GPU, no rank, no open file, and has limits", "[rewards]") {
  ::setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
  ::setenv("WORLD_SIZE", "2", 1);
  const Scores scores = score({program("facts")}, std::vector<std::string>(8, "a"));
  ::unsetenv("OMPI_COMM_WORLD_SIZE");
  ::unsetenv("WORLD_SIZE");
  CHECK(column(scores, 0) == Values(8, 1.0));
  CHECK(column(score({program("memory")}, {"abc"}), 0) == Values{-1.0});
}

TEST_CASE("A scorer that goes away waits for no program", "[rewards]") {
  const Stopwatch watch;
  {
    Scorer scorer({program("hang", 60, 2)}, {}, Logger(0, true));
    scorer.wait_until_ready();
    scorer.submit(1, 0, samples_of({"a", "b"}));
  }
  CHECK(watch.seconds() < 5);
  CHECK_FALSE(has_reward_processes());
}

TEST_CASE("A built-in function that fails for one sample gives the others their values", "[rewards]") {
  const RewardConfig reward{"similarity", {}, "", BuiltInConfig(SimilarityConfig{})};
  std::vector<Sample> samples = samples_of({"a", "b", "c"});
  samples[1].columns = {{"other", 1}};
  Scorer scorer({reward}, {}, Logger(0, true));
  scorer.submit(1, 5, samples);
  const Scores scores = scorer.collect();
  CHECK(column(scores, 0) == Values{1.0, std::nullopt, 1.0});
  CHECK(scores.failed_indices() == std::vector<int64_t>{6});
  CHECK_THAT(scores.failures[0].reason, ContainsSubstring("no column `answer`"));
}

TEST_CASE("Past the set share of failures there is a reason to end", "[rewards]") {
  const std::vector<RewardConfig> rewards = {program("a"), program("b")};
  CHECK(too_many_failures(3, 10, 100, 0.1, rewards, {10, 0}) == std::nullopt);
  CHECK(too_many_failures(3, 0, 0, 0.0, rewards, {0, 0}) == std::nullopt);
  const auto message = too_many_failures(3, 11, 100, 0.1, rewards, {0, 11});
  REQUIRE(message);
  CHECK_THAT(*message, ContainsSubstring("step 3: 11 of 100 samples") && ContainsSubstring("`b` 11 times") &&
                           ContainsSubstring("grpo.max_failed_rewards"));
}

TEST_CASE("A command of plain words is run as it is, another one by the shell", "[rewards]") {
  using Words = std::vector<std::string>;
  CHECK(to_arguments(" python  a.py --x=1 ") == Words{"python", "a.py", "--x=1"});
  for (const char* command :
       {"A=1 python a.py", "python 'a b.py'", "cd x && python a.py", "python a.py 2>log", "python $HOME/a.py"})
    CHECK(to_arguments(command) == Words{"sh", "-c", command});
}

TEST_CASE("The example program gives the rewards that its page shows", "[rewards]") {
  const std::string root = DSFT_SOURCE_DIR;
  std::vector<Sample> samples = samples_of({"It is 4", "Seven", "word " + std::string(80, 'w') + "\n4", ""});
  samples[0].columns = samples[2].columns = {{"answer", "4"}};
  samples[1].columns = {{"answer", "6"}};
  samples[3].columns = {{"answer", nullptr}};
  std::string long_text;
  for (int i = 0; i < 74; ++i) long_text += "word ";
  samples[2].completion = nlohmann::ordered_json::array({{{"role", "assistant"}, {"content", long_text + "\n4"}}});
  RewardConfig reward = program("concise");
  reward.function = ProgramConfig{"python3 " + root + "/recipes/rewards/concise_answer.py", 20, 1};
  Scorer scorer({reward}, {}, Logger(0, true));
  scorer.submit(12, 0, samples);
  const Scores scores = scorer.collect();
  CHECK(column(scores, 0) == Values{1.0, 0.0, 0.75, std::nullopt});
  CHECK(scores.failures.empty());

  samples.resize(2);
  samples[0].prompt = "What is 2 + 2?";
  samples[1].prompt = "What is 3 + 3?";
  samples[0].completion_ids = {1026, 374, 220, 19};
  samples[1].completion_ids = {41677};
  const std::string page = test::read_file(root + "/docs/rewards.md");
  CHECK_THAT(page,
             ContainsSubstring("\n>  " + write_request(0, 12, samples) + "<  {\"id\": 0, \"rewards\": [1.0, 0.0]}\n"));
}

TEST_CASE("A machine with many samples gets the same values whoever computes them", "[rewards]") {
  const RewardConfig similarity{"similarity", {}, "", BuiltInConfig(SimilarityConfig{})};
  const RewardConfig unique{"unique_characters", {}, "", BuiltInConfig(UniqueCharactersConfig{})};
  const auto run = [&](int64_t num_threads, int64_t workers, int64_t size) {
    Scorer scorer({similarity, unique, program("length", 20, workers)}, {.log_folder = {}, .num_threads = num_threads},
                  Logger(0, true));
    for (int64_t first = 120 - size; first >= 0; first -= size) {
      std::vector<std::string> texts;
      for (int64_t i = 0; i < size; ++i)
        texts.push_back("text " + std::to_string((first + i) * 7919) +
                        std::string(static_cast<size_t>(first + i), 'x'));
      scorer.submit(1, first, samples_of(texts));
    }
    return scorer.collect();
  };
  const Scores one = run(1, 1, 120), many = run(4, 3, 5);
  CHECK(one.rewards.size() == 120);
  CHECK(one.indices == many.indices);
  CHECK(one.rewards == many.rewards);
}
