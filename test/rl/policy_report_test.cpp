#include "rl/policy_report.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "rl/policy_charts.h"
#include "support/temp_dir.h"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;
using test::read_file;

namespace {

train::StepReport report_of(int64_t step) {
  const double wave = std::sin(static_cast<double>(step) / 50);
  return {.step = step,
          .loss = 0.01 * wave,
          .grad_norm = 1,
          .step_seconds = 2,
          .metrics = {{"reward", 0.5 + 0.3 * wave},
                      {"reward_std", 0.2},
                      {"rewards/first/mean", 0.4},
                      {"rewards/first/std", 0.1},
                      {"rewards/<second>/mean", 0.4},
                      {"entropy", 1.5},
                      {"completions/mean_length", 100 + 20 * wave},
                      {"frac_reward_zero_std", 0.25},
                      {"rollout/tokens_per_second", 4000},
                      {"agents/solver/accuracy", 0.5},
                      {"ensemble/accuracy", 0.75},
                      {"another/number", 3}}};
}

}  // namespace

TEST_CASE("The page of a run has its curves, evaluations and newest completions, and needs nothing else", "[rl]") {
  test::TempDir output;
  output.write(
      "completions.jsonl",
      R"({"step":3,"prompt":[{"role":"user","content":"2 < 3 & \"so\"?"}],"completion":"<script>alert(1)</script>",)"
      R"("rewards":{"first":1.0},"reward":1.0,"advantage":0.5})"
      "\n");
  output.write("resolved.yaml", "recipe: grpo\n");
  std::vector<std::string> warnings;
  {
    rl::PolicyReport report(output.path(), [&](const std::string& text) { warnings.push_back(text); });
    report.on_start({.max_steps = 3, .logging_steps = 10});
    for (int64_t step = 1; step <= 3; ++step) report.on_step(report_of(step));
    CHECK_THAT(read_file(output / "report.html"), ContainsSubstring("http-equiv=\"refresh\""));
    report.on_evaluation(3, 1.0,
                         {{"eval_reward", 0.6},
                          {"eval_pass@1", 0.25},
                          {"eval_pass@16", 0.75},
                          {"eval_pass@2", 0.5},
                          {"eval_agents/solver/accuracy", 0.25},
                          {"eval_agents/solver/pool_weight", 1},
                          {"eval_ensemble/accuracy", 0.375}});
    report.on_end();
  }
  CHECK(warnings.empty());
  const std::string page = read_file(output / "report.html");
  for (const char* part : {"<h3>Reward</h3>",
                           "<h3>first</h3>",
                           "<h3>&lt;second&gt;</h3>",
                           "<h3>Loss</h3>",
                           "<h3>Entropy</h3>",
                           "<h3>Length of completions</h3>",
                           "<h3>Groups without deviation</h3>",
                           "<h3>Sampler</h3>",
                           "<h3>pass@k</h3>",
                           "<h3>Accuracy</h3>",
                           "</i>solver <b>0.5</b>",
                           "</i>ensemble <b>0.75</b>",
                           "<h3>Accuracy on evaluation prompts</h3>",
                           "</i>ensemble <b>0.375</b>",
                           "<h3>another/number</h3>",
                           "3 of 3",
                           "has ended",
                           "2 &lt; 3 &amp; &quot;so&quot;?",
                           "&lt;script&gt;alert(1)&lt;/script&gt;",
                           "+0.5",
                           "recipe: grpo"})
    CHECK_THAT(page, ContainsSubstring(part));
  for (const char* part :
       {"<script", "http://", "https://", "src=", "@import", "nan", "http-equiv", "<h3>kl", "<h3>eval_"})
    CHECK_THAT(page, !ContainsSubstring(part));
  CHECK(page.find("</i>pass@2") < page.find("</i>pass@16"));  // by the number, not the text
}

TEST_CASE("The page of a long run stays small, and one that goes on shows what came before", "[rl]") {
  test::TempDir output;
  std::string completions;
  const std::string text(20000, 'x');
  for (int i = 0; i < 400; ++i) {
    completions += R"({"step":1,"prompt":"p","completion":")";
    completions += text;
    completions += R"(","rewards":{"first":1.0},"reward":1.0,"advantage":null})";
    completions += '\n';
  }
  output.write("completions.jsonl", completions);
  output.write("report.html", "that of the run before");
  rl::PolicyReport report(output.path(), [](const std::string&) {});
  train::RunPlan plan{.max_steps = 50000, .first_step = 1};
  plan.earlier_log = {R"({"step":1,"epoch":0.1,"loss":0.5,"reward":0.125,"reward_std":null,"step_time":16})"};
  report.on_start(plan);
  CHECK(read_file(output / "report-1.html") == "that of the run before");
  for (int64_t step = 2; step <= 50000; ++step) report.on_step(report_of(step));
  report.on_end();
  const std::string page = read_file(output / "report.html");
  CHECK(page.size() < 1'000'000);
  CHECK_THAT(page, ContainsSubstring("first 0.125") && ContainsSubstring("first 16"));
}

TEST_CASE("The page of a run that fails says so, and is not read again", "[rl]") {
  test::TempDir output;
  {
    rl::PolicyReport report(output.path(), [](const std::string&) {});
    report.on_start({.max_steps = 3});
    report.on_step(report_of(1));
    CHECK_THAT(read_file(output / "report.html"), ContainsSubstring("The run goes on, after"));
  }
  const std::string page = read_file(output / "report.html");
  CHECK_THAT(page, ContainsSubstring("The run ended before its last update, after") && ContainsSubstring("1 of 3") &&
                       !ContainsSubstring("http-equiv"));
  // before its first update there is a page of what was sampled, where something was
  const auto fail_at_once = [](const test::TempDir& folder) {
    rl::PolicyReport report(folder.path(), [](const std::string&) {});
    report.on_start({.max_steps = 3});
  };
  test::TempDir untouched, sampled;
  fail_at_once(untouched);
  CHECK_FALSE(std::filesystem::exists(untouched / "report.html"));
  sampled.write("completions.jsonl", R"({"step": 1, "prompt": "Why?", "completion": "So.", "rewards": {"x": null}})");
  fail_at_once(sampled);
  CHECK_THAT(read_file(sampled / "report.html"), ContainsSubstring("ended before its last update"));
}

TEST_CASE("The page stays small with many agents and rewards, and texts that grow where they are escaped", "[rl]") {
  test::TempDir output;
  const std::string quotes(6000, '"');
  std::string completions;
  for (int i = 0; i < 64; ++i) {
    nlohmann::json record = {{"step", 1},        {"completion", quotes}, {"agent", "agent " + std::to_string(i % 8)},
                             {"answer", quotes}, {"reward", 1.0},        {"advantage", 0.5}};
    for (int m = 0; m < 6; ++m) record["prompt"].push_back({{"role", "user"}, {"content", quotes}});
    record["prompt"].push_back({{"role", "user"}, {"content", std::to_string(i)}});
    for (int r = 0; r < 20; ++r) record["rewards"]["'reward' " + std::to_string(r)] = 0.125;
    completions += record.dump() + "\n";
  }
  output.write("completions.jsonl", completions);
  std::string recipe = "recipe: grpo # ";
  while (recipe.size() < 200'000) recipe += "\xc3\xa9'";
  output.write("resolved.yaml", recipe);
  rl::PolicyReport report(output.path(), [](const std::string&) {});
  report.on_start({.max_steps = 1000});
  for (int64_t step = 1; step <= 1000; ++step) {
    train::StepReport numbers = report_of(step);
    for (int i = 0; i < 60; ++i) {
      const std::string name = std::to_string(i);
      numbers.metrics["rewards/'reward' " + name + "/mean"] = 0.125 * static_cast<double>(step % 7);
      numbers.metrics["rewards/'reward' " + name + "/std"] = 0.5;
      numbers.metrics["agents/agent " + name + "/accuracy"] = 0.5;
      numbers.metrics["agents/agent " + name + "/consistency"] = 0.5;
    }
    report.on_step(numbers);
  }
  report.on_end();
  const std::string page = read_file(output / "report.html");
  CHECK(page.size() < 1'000'000);
  for (const char* part : {"<h3>&#39;reward&#39; 0</h3>", "Not drawn, to keep this page small: ", "recipe: grpo",
                           "more bytes</span></pre></details>"})
    CHECK_THAT(page, ContainsSubstring(part));
  CHECK_THAT(page, ContainsSubstring("\xc3\xa9&#39;<span class") || ContainsSubstring("\xc3\xa9<span class"));
}

TEST_CASE("A page that cannot be written is said once and costs the run nothing", "[rl]") {
  test::TempDir output;
  std::filesystem::create_directory(output / "report.html");  // a folder stands in its place
  std::filesystem::create_directory(output / "report.html" / "in it");
  std::vector<std::string> warnings;
  rl::PolicyReport report(output.path(), [&](const std::string& text) { warnings.push_back(text); });
  report.on_start({.max_steps = 2, .is_new_run = false});
  report.on_step(report_of(1));
  report.on_evaluation(1, 1.0, {{"eval_reward", 0.6}});
  report.on_end();
  REQUIRE(warnings.size() == 1);
  CHECK_THAT(warnings[0], ContainsSubstring("the run goes on"));
}

TEST_CASE("The page says of a loss that it begins near 0 only where it does", "[rl]") {
  const auto explained = [](const std::string& metric) {
    std::map<std::string, report::Curve> curves;
    curves["loss"].add(1, 0.1, std::nan(""));
    curves[metric].add(1, 0.1, std::nan(""));
    for (const report::ChartSection& section : rl::policy_charts(curves))
      for (const report::LineChart& chart : section.charts)
        if (chart.title == "Loss") return chart.explanation;
    return std::string();
  };
  CHECK_THAT(explained("clip_ratio/low_mean"), ContainsSubstring("it begins near 0"));
  CHECK_THAT(explained("policy_loss"), ContainsSubstring("without the entropy term it begins near 0"));
  for (const char* metric : {"cispo_clip_ratio", "vespo/phi_seq_mean"})
    CHECK_THAT(explained(metric), !ContainsSubstring("near 0"));
}
