// `dsft bench`, on a model that is measured in no time.
#include "catch_amalgamated.hpp"
#include "end_to_end/run_dsft.h"
#include "support/tiny_checkpoint.h"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::Equals;
using nlohmann::json;

namespace {

test::ProgramRun run_bench(const test::TempDir& folder, const std::string& kind, std::vector<std::string> more) {
  const std::string config = (test::write_tiny_checkpoint(folder, "model") / "config.json").string();
  more.insert(more.begin(), {"bench", kind, "--config", config, "--device", "cpu", "--batch-size", "2", "--length",
                             "16", "--new-tokens", "4", "--warmup", "0", "--json"});
  return test::run_dsft(std::move(more), folder);
}

}  // namespace

TEST_CASE("bench measures training and decoding, and writes a trace of one repetition more", "[end_to_end]") {
  const test::TempDir folder;
  const std::string kind = GENERATE("train", "decode");
  const auto run = run_bench(folder, kind, {"--steps", "1", "--profile", (folder / "trace.json").string()});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const json result = json::parse(run.out);
  CHECK(result["kind"] == kind);
  CHECK(result["device"] == "cpu");
  CHECK(result["tokens_per_second"].get<double>() > 0);
  if (kind == "train") {
    CHECK(result["cuda_graphs"] == false);
    for (const char* part : {"data_ms", "data_wait_ms", "forward_ms", "backward_ms", "optimizer_ms"})
      CHECK(result[part].get<double>() > 0);
    CHECK(result["num_ranks"] == 1);
    CHECK_FALSE(result.contains("communication_ms"));  // one rank exchanges nothing
    CHECK_THAT(result["bound"].get<std::string>(), Equals("compute or memory bandwidth") || Equals("data"));
  }
  const json trace = json::parse(std::ifstream(folder / "trace.json"));
  CHECK(trace["traceEvents"].size() > 10);
}

TEST_CASE("bench finds before it measures that its trace cannot be written", "[end_to_end]") {
  const test::TempDir folder;
  const std::string path = (folder / "no_folder/trace.json").string();
  const auto run = run_bench(folder, GENERATE("train", "decode"), {"--steps", "1000000000", "--profile", path});
  CHECK(run.exit_code == 3);
  CHECK(run.out.empty());
  CHECK_THAT(run.err, ContainsSubstring(path));
  CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
}
