// Ready recipes whose checkpoints no machine of the tests has, on random weights.
#include <cmath>
#include <map>
#include <set>

#include "catch_amalgamated.hpp"
#include "end_to_end/run_dsft.h"
#include "io/safetensors.h"

using namespace dsft;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

const fs::path kSource = DSFT_SOURCE_DIR;

/// Two conversations that call a function.
std::string tool_rows() {
  const json tool = {{"type", "function"},
                     {"function",
                      {{"name", "get_time"},
                       {"description", "The time in a city."},
                       {"parameters", {{"type", "object"}, {"properties", {{"city", {{"type", "string"}}}}}}}}}};
  std::string rows;
  for (const char* city : {"Oslo", "Lima"}) {
    const json call = {{"type", "function"}, {"function", {{"name", "get_time"}, {"arguments", {{"city", city}}}}}};
    const json messages = {{{"role", "user"}, {"content", std::string("What time is it in ") + city + "?"}},
                           {{"role", "assistant"}, {"content", ""}, {"tool_calls", {call}}}};
    rows += json{{"messages", messages}, {"tools", {tool}}}.dump() + "\n";
  }
  return rows;
}

}  // namespace

TEST_CASE("The recipe of Qwen3-0.6B trains a random checkpoint of its configuration", "[end_to_end][slow]") {
  const test::TempDir folder;
  json config = json::parse(test::read_file(kSource / "recipes/configs/qwen3_0.6b.json"));
  config["num_hidden_layers"] = 2;
  const fs::path config_file = folder.write("config.json", config.dump());
  const fs::path starter = kSource / "models/SmolLM2-135M-Instruct";
  const fs::path tokenizer =
      fs::exists(starter / "tokenizer.json") ? starter : kSource / "test/fixtures/data/tokenizer";
  const fs::path model = folder / "model", output = folder / "run";
  const auto made = test::run_dsft(
      {"init-model", "--config", config_file.string(), "--tokenizer", tokenizer.string(), "--output", model.string()},
      folder);
  INFO(made.err);
  REQUIRE(made.exit_code == 0);

  const std::string rows = folder.write("rows.jsonl", tool_rows()).string();
  const auto run = test::run_dsft(
      {"launch", (kSource / "recipes/sft/qwen3_0.6b_function_calling.yaml").string(), "model.path=" + model.string(),
       "output_dir=" + output.string(), "data.train=[" + rows + "]", "data.eval=[]",
       "data.chat_template=" + (kSource / "recipes/templates/smollm2_tools.jinja").string(), "device=cpu",
       "training.max_steps=1", "training.per_device_train_batch_size=1", "training.gradient_accumulation_steps=1"},
      folder);
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const auto metrics = test::read_lines(output / "metrics.jsonl");
  REQUIRE(metrics.size() == 1);
  // random weights know nothing: about ln(151936) = 11.9
  CHECK(std::abs(metrics.front()["loss"].get<double>() - std::log(151936.0)) < 1.0);
  CHECK(metrics.front()["grad_norm"].get<double>() > 0.0);

  std::set<std::string> adapted;
  const auto adapter = io::SafetensorsFile::open(output / "adapter_model.safetensors");
  for (const io::TensorInfo& tensor : adapter.tensors())
    adapted.insert(tensor.name.substr(0, tensor.name.find(".lora_")));
  CHECK(adapted.size() == 8);  // q, k, v and o of two layers
  CHECK(adapted.contains("base_model.model.model.layers.1.self_attn.o_proj"));
  CHECK(json::parse(test::read_file(output / "adapter_config.json"))["r"] == 16);
}

namespace {

/// The GRPO recipes on a random two-layer model and rows that scripts/make_gsm8k.py makes of 64 such as GSM8K has.
class GrpoRecipes {
 public:
  GrpoRecipes() {
    test::make_tiny_job(folder_, "");
    std::string lines;
    for (int i = 0; i < 64; ++i)
      lines += json{{"question", "What is 2 + " + std::to_string(i) + "?"},
                    {"answer", "2 and " + std::to_string(i) + " are that.\n#### " + std::to_string(2 + i)}}
                   .dump() +
               "\n";
    folder_.write("rows.jsonl", lines);
    process::ChildOptions options;
    options.argv = {"python3", (kSource / "scripts/make_gsm8k.py").string(), (folder_ / "rows.jsonl").string(),
                    "--output", (folder_ / "made").string()};
    options.on_line = [](process::Stream, std::string_view) {};
    if (process::Child(std::move(options)).wait().exit_code != 0) throw std::runtime_error("make_gsm8k.py failed");
  }

  /// Runs `dsft COMMAND` with the recipe of this name, from the root, where recipes find the files that they name.
  test::ProgramRun run(const std::string& command, const std::string& name, const std::vector<std::string>& more = {}) {
    const test::WorkingDirectory at_root(kSource);
    const std::string rows = "[" + (folder_ / "made/rows.jsonl").string() + "]";
    std::vector<std::string> arguments = {command,
                                          "recipes/grpo/" + name,
                                          "model={path: " + (folder_ / "model").string() + ", dtype: fp32}",
                                          "output_dir=" + output_dir(name).string(),
                                          "device=cpu",
                                          "data.train=" + rows,
                                          "data.eval=" + rows};
    // the checkpoint of these has a template, the random one has none
    if (name.find("ensemble") != std::string::npos)
      arguments.push_back("data.chat_template=" + (folder_ / "chatml.jinja").string());
    arguments.insert(arguments.end(), more.begin(), more.end());
    return test::run_dsft(arguments, folder_);
  }

  fs::path output_dir(const std::string& name) const { return folder_ / ("run of " + name); }

 private:
  test::TempDir folder_;
};

}  // namespace

TEST_CASE("The GRPO recipes pass check on a small model, and that of maths runs with its evaluations", "[end_to_end]") {
  GrpoRecipes recipes;
  for (const auto& entry : fs::directory_iterator(kSource / "recipes/grpo")) {
    const std::string name = entry.path().filename().string();
    const auto checked = recipes.run("check", name);
    INFO(name << ": " << checked.err);
    CHECK(checked.exit_code == 0);
  }
  const std::string maths = "qwen2.5_1.5b_maths.yaml";
  const auto trained =
      recipes.run("train", maths,
                  {"training.max_steps=1", "eval.num_samples=2", "training.per_device_train_batch_size=8",
                   "training.gradient_accumulation_steps=1", "grpo.max_completion_length=4"});
  INFO(trained.err);
  REQUIRE(trained.exit_code == 0);
  int num_evaluations = 0;
  for (const json& line : test::read_lines(recipes.output_dir(maths) / "metrics.jsonl"))
    if (line.contains("eval_pass@1") && line.contains("eval_pass@8")) ++num_evaluations;
  CHECK(num_evaluations == 2);  // before and after
}

TEST_CASE("The recipes with agents train an update and evaluate on a small model", "[end_to_end]") {
  GrpoRecipes recipes;
  using Names = std::set<std::string>;
  for (const auto& [name, agents] : {std::pair("smollm2_135m_ensemble.yaml", Names{"brief", "equation", "words"}),
                                     std::pair("qwen2.5_1.5b_ensemble.yaml", Names{"solver", "planner", "checker"})}) {
    const auto trained =
        recipes.run("train", name,
                    {"training.max_steps=1", "eval.num_samples=2", "training.per_device_train_batch_size=12",
                     "training.gradient_accumulation_steps=1", "grpo.max_completion_length=4"});
    INFO(name << ": " << trained.err);
    REQUIRE(trained.exit_code == 0);
    int num_updates = 0, num_evaluations = 0;
    for (const json& line : test::read_lines(recipes.output_dir(name) / "metrics.jsonl")) {
      num_updates += line.contains("loss");
      num_evaluations += line.contains("eval_ensemble/accuracy") && line.contains("eval_pass@4");
      const std::string prefix = line.contains("loss") ? "" : "eval_";
      for (const std::string& agent : agents) CHECK(line.contains(prefix + "agents/" + agent + "/accuracy"));
      CHECK(line.contains(prefix + "ensemble/consistency"));
    }
    CHECK(num_updates == 1);
    CHECK(num_evaluations == 2);  // before and after
    // one prompt in the update, two in each evaluation; each agent answers four times
    std::map<std::string, int> num_sampled, num_evaluated;
    for (const json& line : test::read_lines(recipes.output_dir(name) / "completions.jsonl"))
      ++(line.contains("evaluation") ? num_evaluated : num_sampled)[line.at("agent").get<std::string>()];
    for (const std::string& agent : agents) {
      CHECK(num_sampled[agent] == 4);
      CHECK(num_evaluated[agent] == 16);
    }
    CHECK(num_sampled.size() == 3);
    CHECK(fs::exists(recipes.output_dir(name) / "adapter_model.safetensors"));
  }
}
