#include "train/observers.h"

#include "catch_amalgamated.hpp"
#include "support/temp_dir.h"

using namespace dsft;
using namespace dsft::train;
using test::read_file;

namespace {

void log_steps(const test::TempDir& output, int64_t first, int64_t last, std::vector<std::string>& warnings) {
  MetricsFile file(output.path(), [&](const std::string& text) { warnings.push_back(text); });
  file.on_start({.max_steps = last, .first_step = first});
  for (int64_t step = first + 1; step <= last; ++step) file.on_evaluation(step, 0.5, {{"eval_loss", 1.0}});
  file.on_end();
}

}  // namespace

TEST_CASE("A run that goes on keeps the lines up to its step, whatever else is there", "[train]") {
  test::TempDir output;
  output.write("metrics.jsonl",
               "{\"step\":1,\"a\":1}\n{\"step\":\"x\"}\n{\"step\":3}\n{\"step\":2}\nno json\n{\"step\":1,\"los");
  std::vector<std::string> warnings;
  log_steps(output, 2, 3, warnings);
  CHECK(read_file(output / "metrics.jsonl") ==
        "{\"step\":1,\"a\":1}\n{\"step\":2}\n{\"step\":3,\"epoch\":0.5,\"eval_loss\":1.0}\n");
  CHECK(warnings.empty());
  CHECK(std::distance(std::filesystem::directory_iterator(output.path()), {}) == 1);
}

TEST_CASE("A run that starts anew renames the metrics of earlier ones and says so", "[train]") {
  test::TempDir output;
  std::vector<std::string> warnings;
  log_steps(output, 0, 3, warnings);
  const std::string first = read_file(output / "metrics.jsonl");
  log_steps(output, 0, 2, warnings);
  const std::string second = read_file(output / "metrics.jsonl");
  log_steps(output, 0, 1, warnings);
  CHECK(read_file(output / "metrics-1.jsonl") == first);
  CHECK(read_file(output / "metrics-2.jsonl") == second);
  REQUIRE(warnings.size() == 2);
  CHECK(warnings[0].find("metrics-1.jsonl") != std::string::npos);
}
