#include "train/observers.h"

#include <sstream>

#include "catch_amalgamated.hpp"
#include "support/temp_dir.h"

using namespace dsft;
using namespace dsft::train;
using test::read_file;

namespace {

void log_steps(const test::TempDir& output, const RunPlan& plan, std::vector<std::string>& warnings) {
  MetricsFile file(output.path(), [&](const std::string& text) { warnings.push_back(text); });
  file.on_start(plan);
  for (int64_t step = plan.first_step + 1; step <= plan.max_steps; ++step)
    file.on_evaluation(step, 0.5, {{"eval_loss", 1.0}});
  file.on_end();
}

const std::string kLine3 = "{\"step\":3,\"epoch\":0.5,\"eval_loss\":1.0}\n";

}  // namespace

TEST_CASE("A run that goes on has the lines up to its checkpoint, whatever a killed run left behind them", "[train]") {
  test::TempDir output;
  output.write("metrics.jsonl", "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"step\":4,\"los");
  std::vector<std::string> warnings;
  log_steps(output,
            {.max_steps = 3, .first_step = 2, .is_new_run = false, .earlier_log = {"{\"step\":1}", "{\"step\":2}"}},
            warnings);
  CHECK(read_file(output / "metrics.jsonl") == "{\"step\":1}\n{\"step\":2}\n" + kLine3);
  CHECK(warnings.empty());
  CHECK(std::distance(std::filesystem::directory_iterator(output.path()), {}) == 1);
}

TEST_CASE("A run that continues another one's checkpoint leaves that one's metrics whole", "[train]") {
  test::TempDir output;
  const std::string other = "{\"step\":2}\n{\"step\":3}\n{\"step\":4}\n";
  output.write("metrics.jsonl", other);
  std::vector<std::string> warnings;
  log_steps(output, {.max_steps = 3, .first_step = 2, .earlier_log = {"{\"step\":2}"}}, warnings);
  CHECK(read_file(output / "metrics-1.jsonl") == other);
  CHECK(read_file(output / "metrics.jsonl") == "{\"step\":2}\n" + kLine3);
  CHECK(warnings.size() == 1);
}

TEST_CASE("A run that starts anew renames the metrics of earlier ones and says so", "[train]") {
  test::TempDir output;
  std::vector<std::string> warnings;
  log_steps(output, {.max_steps = 3}, warnings);
  const std::string first = read_file(output / "metrics.jsonl");
  log_steps(output, {.max_steps = 2}, warnings);
  const std::string second = read_file(output / "metrics.jsonl");
  log_steps(output, {.max_steps = 1}, warnings);
  CHECK(read_file(output / "metrics-1.jsonl") == first);
  CHECK(read_file(output / "metrics-2.jsonl") == second);
  REQUIRE(warnings.size() == 2);
  CHECK(warnings[0].find("metrics-1.jsonl") != std::string::npos);
}

TEST_CASE("What is followed of a run stands in its progress and in its evaluations, and nothing else", "[train]") {
  std::ostringstream out;
  const auto show = [&](const ShownMetrics& shown) {
    out.str("");
    ProgressDisplay display({&out, false, 80}, shown);
    display.on_start({.max_steps = 1});
    display.on_step({.step = 1, .step_tokens = 100, .step_seconds = 1, .metrics = {{"entropy", 2}, {"reward", 0.25}}});
    display.on_evaluation(1, 0.5, {{"eval_entropy", 2}, {"eval_pass@1", 0.125}, {"eval_reward", 0.5}});
    display.on_end();
    return out.str();
  };
  CHECK(show({"reward", {"eval_reward", "eval_pass@1", "eval_pass@8"}}) ==
        "step 1/1  reward 0.2500  loss 0.0000  100 tokens/s  0.0 GiB\n"
        "evaluation after step 1:  eval_reward 0.5  eval_pass@1 0.125\n");
  CHECK(show({}) ==
        "step 1/1  loss 0.0000  100 tokens/s  0.0 GiB\n"
        "evaluation after step 1:  eval_entropy 2  eval_pass@1 0.125  eval_reward 0.5\n");
}
