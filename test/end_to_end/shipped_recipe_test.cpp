// A ready recipe of a family that no machine of the tests has a checkpoint of, on random weights, as its comment says.
#include <cmath>
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

TEST_CASE("The GRPO recipes pass check on a small model, and that of maths runs with its evaluations", "[end_to_end]") {
  const test::TempDir folder;
  test::make_tiny_job(folder, "");
  std::string lines;
  for (int i = 0; i < 64; ++i)
    lines += json{{"prompt", {{{"role", "user"}, {"content", "What is 2 + " + std::to_string(i) + "?"}}}},
                  {"answer", "#### " + std::to_string(2 + i)}}
                 .dump() +
             "\n";
  const std::string rows = folder.write("rows.jsonl", lines).string();
  const fs::path source = kSource / "recipes/grpo";
  const auto run = [&](const std::string& command, const std::string& name, std::vector<std::string> more) {
    std::vector<std::string> arguments = {command,
                                          (source / name).string(),
                                          "model={path: " + (folder / "model").string() + ", dtype: fp32}",
                                          "output_dir=" + (folder / "grpo").string(),
                                          "device=cpu",
                                          "data.train=[" + rows + "]"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return test::run_dsft(arguments, folder);
  };
  const std::string chatml = "data.chat_template=" + (folder / "chatml.jinja").string();
  const std::string reasoning =
      "data.chat_template=" + (kSource / "recipes/templates/qwen2.5_reasoning.jinja").string();
  for (const auto& entry : fs::directory_iterator(source)) {
    const std::string name = entry.path().filename().string();
    const bool has_agents = name.find("ensemble") != std::string::npos;
    const auto checked = run("check", name,
                             has_agents ? std::vector<std::string>{chatml}
                                        : std::vector<std::string>{reasoning, "data.eval=[" + rows + "]"});
    INFO(name << ": " << checked.err);
    CHECK(checked.exit_code == 0);
  }
  const auto trained = run("train", "qwen2.5_1.5b_maths.yaml",
                           {reasoning, "data.eval=[" + rows + "]", "training.max_steps=1", "eval.num_samples=2",
                            "training.per_device_train_batch_size=8", "training.gradient_accumulation_steps=1",
                            "grpo.max_completion_length=4"});
  INFO(trained.err);
  REQUIRE(trained.exit_code == 0);
  int num_evaluations = 0;
  for (const json& line : test::read_lines(folder / "grpo" / "metrics.jsonl"))
    if (line.contains("eval_pass@1") && line.contains("eval_pass@8")) ++num_evaluations;
  CHECK(num_evaluations == 2);  // before and after
}
