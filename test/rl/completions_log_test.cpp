// completions.jsonl: in which order records stand in it, and what a run that continues leaves of it.
#include "rl/completions_log.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "comm/single_process_communicator.h"
#include "comm/thread_ranks.h"
#include "support/temp_dir.h"

using namespace dsft;
using test::read_file;

namespace {

std::string line(int64_t step, const std::string& completion) {
  return concat("{\"step\":", step, ",\"completion\":\"", completion, "\"}");
}

std::string lines(int64_t first, int64_t last) {
  std::string all;
  for (int64_t step = first; step <= last; ++step) all += line(step, "a") + "\n" + line(step, "b") + "\n";
  return all;
}

/// Writes one round of a run of one rank that begins so.
void write_round(const test::TempDir& folder, const train::RunPlan& plan, const std::string& object) {
  const auto alone = comm::make_single_process_communicator();
  const Logger logger(0, true);
  rl::CompletionsLog log(folder / "completions.jsonl", *alone, logger);
  log.begin(plan);
  log.write({{0, 0, object}});
}

}  // namespace

TEST_CASE("A run that goes on takes what was sampled behind its checkpoint out of the file, and nothing else", "[rl]") {
  const test::TempDir folder;
  const std::string kept = lines(1, 2) + "no record\n" + lines(3, 3);
  const std::string next = line(4, "new");
  for (const std::string& behind : {std::string(), lines(4, 6), lines(4, 4) + "{\"step\":5,\"compl", line(3, "cut")}) {
    folder.write("completions.jsonl", kept + behind);
    write_round(folder, {.first_step = 3, .is_new_run = false}, next);
    CHECK(read_file(folder / "completions.jsonl") == kept + next + "\n");
  }
  std::filesystem::remove(folder / "completions.jsonl");
  write_round(folder, {.first_step = 3, .is_new_run = false}, next);
  CHECK(read_file(folder / "completions.jsonl") == next + "\n");
  CHECK_FALSE(std::filesystem::exists(folder / "completions-1.jsonl"));
}

TEST_CASE("A run that begins anew, or continues from an older checkpoint, leaves the earlier file whole", "[rl]") {
  const test::TempDir folder;
  const int64_t first_step = GENERATE(0, 3);
  const std::string earlier = lines(1, 6), next = line(first_step + 1, "new");
  folder.write("completions.jsonl", earlier);
  write_round(folder, {.first_step = first_step, .is_new_run = true}, next);
  CHECK(read_file(folder / "completions-1.jsonl") == earlier);
  CHECK(read_file(folder / "completions.jsonl") == next + "\n");
}

TEST_CASE("A file that cannot be read is left as it is", "[rl]") {
  if (::geteuid() == 0) SKIP("root reads every file");
  const test::TempDir folder;
  const std::string earlier = lines(1, 6), path = folder.write("completions.jsonl", earlier).string();
  REQUIRE(::chmod(path.c_str(), 0) == 0);
  write_round(folder, {.first_step = 3, .is_new_run = false}, line(4, "new"));
  REQUIRE(::chmod(path.c_str(), 0600) == 0);
  CHECK(read_file(path) == earlier);
}

TEST_CASE("The records of a round stand in the order of groups and generations, whichever rank sampled them", "[rl]") {
  const test::TempDir folder;
  const Logger logger(0, true);
  comm::run_thread_ranks(2, [&](comm::Communicator& communicator) {
    rl::CompletionsLog log(folder / "completions.jsonl", communicator, logger);
    if (communicator.rank() == 0) log.begin({});
    for (int64_t step = 1; step <= 2; ++step) {
      std::vector<rl::CompletionRecord> own;
      for (int64_t i = 7; i >= 0; --i)
        if (i % 2 == communicator.rank()) own.push_back({i / 4 + 9, i % 4, line(step, std::to_string(i))});
      log.write(own);
    }
  });
  std::string expected;
  for (int64_t step = 1; step <= 2; ++step)
    for (int64_t i = 0; i < 8; ++i) expected += line(step, std::to_string(i)) + "\n";
  CHECK(read_file(folder / "completions.jsonl") == expected);
}
