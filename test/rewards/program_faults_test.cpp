// What reward programs do wrong, and that it costs no more than it must.
#include <fstream>
#include <thread>

#include "base/stopwatch.h"
#include "catch_amalgamated.hpp"
#include "rewards/reward_program.h"
#include "rewards/scoring.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using namespace dsft;
using namespace dsft::rewards;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;

namespace {

/// The reason for which a program gave no value for a single sample.
std::string failure_of(const std::string& mode, double timeout_s = 20, ScorerOptions options = {}) {
  const Scores scores = score({program(mode, timeout_s)}, {"abc"}, options);
  REQUIRE(scores.rewards.at(0).at(0) == std::nullopt);
  REQUIRE(scores.failures.size() == 1);
  REQUIRE(scores.failed_indices() == std::vector<int64_t>{0});
  return scores.failures[0].reason;
}

}  // namespace

TEST_CASE("A program that lies is named with what it wrote", "[rewards]") {
  CHECK_THAT(failure_of("wrong_length"),
             ContainsSubstring("2 rewards for 1 completion") && ContainsSubstring("program.py wrong_length"));
  CHECK_THAT(failure_of("wrong_id"), ContainsSubstring("answered request 1 where request 0"));
  CHECK_THAT(failure_of("text"), ContainsSubstring("\"good\" as reward 1"));
  CHECK_THAT(failure_of("bool"), ContainsSubstring("true as reward 1"));
  CHECK_THAT(failure_of("nan"), ContainsSubstring("NaN"));
  CHECK_THAT(failure_of("infinity"), ContainsSubstring("1e999"));
  CHECK_THAT(failure_of("no_rewards"), ContainsSubstring("without a list `rewards`"));
  CHECK_THAT(failure_of("bad_json"), ContainsSubstring("`{'id': 0}`"));
  CHECK_THAT(failure_of("chatter"), ContainsSubstring("`scoring ...`") && ContainsSubstring("standard error"));
  CHECK_THAT(failure_of("crash"), ContainsSubstring("ended with code 7 before it had written its reply to request 0"));
  CHECK_FALSE(has_reward_processes());
}

TEST_CASE("What a program writes after its reply is a failure of this request or of the next", "[rewards]") {
  Scorer scorer({program("chatter_after")}, {}, Logger(0, true));
  scorer.submit(1, 0, samples_of({"a"}));
  scorer.submit(1, 1, samples_of({"a"}));
  const Scores scores = scorer.collect();
  REQUIRE_FALSE(scores.failures.empty());
  CHECK_THAT(scores.failures[0].reason, ContainsSubstring("`done`"));
}

TEST_CASE("A program that is not there is known without a shell where its name is plain", "[rewards]") {
  CHECK(find_missing_program("python3 x.py") == "");
  CHECK(find_missing_program("/bin/sh -c x") == "");
  CHECK(find_missing_program("pyton3 x.py") == "pyton3");
  CHECK(find_missing_program("./nowhere/x.py") == "./nowhere/x.py");
  CHECK(find_missing_program("pyton3 x.py | tail") == "");  // a shell's
}

TEST_CASE("A program is watched while nothing is asked of it", "[rewards]") {
  Scorer scorer({program("bomb_later")}, {}, Logger(0, true));
  scorer.submit(1, 0, samples_of({"a"}));
  CHECK(column(scorer.collect(), 0) == Values{1.0});
  for (int i = 0; i < 1000 && process::find_descendants(::getpid()).size() <= 1; ++i) std::this_thread::sleep_for(1ms);
  for (int i = 0; i < 1000 && has_reward_processes(); ++i) std::this_thread::sleep_for(10ms);
  CHECK_FALSE(has_reward_processes());
  scorer.submit(2, 0, samples_of({"ab"}));
  CHECK(column(scorer.collect(), 0) == Values{2.0});
}

TEST_CASE("Programs that cannot begin are told before anything is asked of them", "[rewards]") {
  const auto refused = [](RewardConfig reward, std::initializer_list<std::string> parts) {
    Scorer scorer({std::move(reward)}, {.log_folder = {}, .num_threads = 1, .start_timeout_s = 0.3}, Logger(0, true));
    test::require_error(ErrorKind::kData, parts, [&] { scorer.wait_until_ready(); });
  };
  refused(program("hang_at_start"), {"hang_at_start", "did not write its first line within 0.3 s"});
  RewardConfig missing = program("x");
  missing.function = ProgramConfig{"no-such-program --a", 1, 1};
  refused(missing, {"cannot run no-such-program", "No such file"});
  const auto refused_later = [](RewardConfig reward, std::initializer_list<std::string> parts) {
    Scorer scorer({std::move(reward)}, {}, Logger(0, true));
    test::require_error(ErrorKind::kData, parts, [&] { scorer.wait_until_ready(); });
  };
  refused_later(program("crash_at_start"), {"ended with code 1 before", "no module named nothing"});
  refused_later(program("say_nothing"), {"ended with code 0"});
  refused_later(program("protocol_2"), {"protocol 2, not 1"});
  refused_later(program("no_greeting"), {"`loading the model ...`"});
  missing.function = ProgramConfig{"exit 3; true", 1, 1};
  refused_later(missing, {"ended with code 3"});
}

TEST_CASE("A request past its deadline costs its own samples only, and a new process answers the next", "[rewards]") {
  Scorer scorer({program("by_text", 0.4, 2)}, {}, Logger(0, true));
  scorer.wait_until_ready();
  scorer.submit(1, 0, samples_of({"aa", "hang", "b", "ccc"}));  // two parts
  Scores scores = scorer.collect();
  CHECK(column(scores, 0) == Values{std::nullopt, std::nullopt, 1.0, 3.0});
  CHECK(scores.failed_indices() == std::vector<int64_t>{0, 1});
  CHECK(scores.count_failures(1) == std::vector<int64_t>{2});
  CHECK_THAT(scores.failures[0].reason, ContainsSubstring("within 0.4 s"));
  scorer.submit(2, 0, samples_of({"aa", "die"}));
  scores = scorer.collect();
  CHECK(column(scores, 0) == Values{2.0, std::nullopt});
  CHECK_THAT(scores.failures[0].reason, ContainsSubstring("killed by signal 9"));
  scorer.submit(3, 0, samples_of({"aa", "b"}));
  scores = scorer.collect();
  CHECK(column(scores, 0) == Values{2.0, 1.0});
  CHECK(scores.failures.empty());
}

TEST_CASE("A sample on which a program fails costs no other one its value, however many were asked for", "[rewards]") {
  Scorer scorer({program("by_text", 20, 1)}, {}, Logger(0, true));
  scorer.wait_until_ready();
  for (int64_t i = 0; i < 40; ++i) scorer.submit(1, i, samples_of({i == 23 ? "die" : std::string(i + 1, 'a')}));
  const Scores scores = scorer.collect();
  CHECK(scores.failed_indices() == std::vector<int64_t>{23});
  for (size_t i = 0; i < 40; ++i)
    if (i != 23) CHECK(scores.rewards[i] == Values{static_cast<double>(i + 1)});
}

TEST_CASE("A program that fails again and again is given up, and its samples fail at once", "[rewards]") {
  Scorer scorer({program("crash", 20, 1)}, {}, Logger(0, true));
  for (int64_t i = 0; i < 5; ++i) scorer.submit(1, i, samples_of({"a"}));
  Scores scores = scorer.collect();
  REQUIRE(scores.failures.size() == 5);
  CHECK_THAT(scores.failures[2].reason, ContainsSubstring("ended with code 7"));
  CHECK_THAT(scores.failures[3].reason, ContainsSubstring("was given up") && ContainsSubstring("3 times in a row"));
  const Stopwatch watch;
  scorer.submit(2, 0, samples_of({"a"}));
  CHECK_THAT(scorer.collect().failures.at(0).reason, ContainsSubstring("was given up"));
  CHECK(watch.seconds() < 0.1);
}

TEST_CASE("A gigabyte on standard output ends the program, on standard error it is dropped past a bound", "[rewards]") {
  const test::TempDir folder;
  CHECK_THAT(failure_of("flood_stdout"), ContainsSubstring("bytes without a line break, beginning with `xxx"));
  const Scores scores =
      score({program("flood_stderr")}, {"abc"}, {.log_folder = folder.path(), .num_threads = 1, .start_timeout_s = 20});
  CHECK(column(scores, 0) == Values{3.0});
  const auto size = std::filesystem::file_size(folder / "reward-flood_stderr-0-0.log");
  CHECK(size > kMostLogBytes);
  CHECK(size < kMostLogBytes + 100);
}

TEST_CASE("A program that starts processes without end is ended with all of them", "[rewards]") {
  CHECK_THAT(failure_of("fork_bomb"), ContainsSubstring("has started") && ContainsSubstring("at most 256"));
  CHECK_FALSE(has_reward_processes());
}

TEST_CASE("Nothing of a program is left, not even what left its session", "[rewards]") {
  for (const char* mode : {"orphan", "orphan_and_exit"}) {
    const test::TempDir folder;
    const std::string file = (folder / "pids").string();
    const Scores scores = score({program(mode, 0.6, 1, file)}, {"abc"});
    CHECK(scores.failures.size() == 1);
    std::ifstream pids(file);
    pid_t daemon = 0, other = 0;
    REQUIRE(pids >> daemon >> other);
    for (const pid_t pid : {daemon, other}) {
      const auto has_ended = [&] {
        std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
        std::string number, name, state;
        return !(stat >> number >> name >> state) || state == "Z";
      };
      for (int i = 0; i < 100 && !has_ended(); ++i) std::this_thread::sleep_for(10ms);
      CHECK(has_ended());
    }
  }
  CHECK_FALSE(has_reward_processes());
}
