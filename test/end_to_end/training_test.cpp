// The two programs as a user runs them.
#include <cmath>

#include "catch_amalgamated.hpp"
#include "end_to_end/run_dsft.h"

using namespace dsft;

namespace {

constexpr const char* kLora = "lora: {r: 16, lora_alpha: 32}\n";
constexpr const char* kTraining =
    "training: {max_steps: 100, per_device_train_batch_size: 8, learning_rate: 1.0e-2, lr_scheduler_type: constant, "
    "save_steps: 30, report_to: [none]}\n";

std::string value_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("A recipe overfits eight examples, with LoRA and with all weights, and leaves files that load",
          "[end_to_end]") {
  const bool with_lora = GENERATE(true, false);
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, (with_lora ? kLora : std::string()) + kTraining);
  const auto run = test::run_dsft({"launch", "--num-procs", "1", recipe.string()}, folder);
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const auto metrics = test::read_lines(folder / "run/metrics.jsonl");
  REQUIRE(metrics.size() == 100);
  CHECK(metrics.front()["loss"].get<double>() > 4.0);
  CHECK(metrics.back()["loss"].get<double>() < 0.2);
  CHECK(metrics.back()["mean_token_accuracy"].get<double>() > 0.9);
  for (const char* key :
       {"epoch", "grad_norm", "learning_rate", "num_tokens", "tokens_per_second", "step_time", "peak_memory_gib"})
    CHECK(metrics.back().contains(key));
  const std::filesystem::path output = folder / "run";
  // transformers takes a folder with a config.json for that of a whole model
  CHECK(std::filesystem::exists(output / "config.json") == !with_lora);
  for (const char* name : {"tokenizer.json", "resolved.yaml", "checkpoint-100/trainer_state.json",
                           "checkpoint-90/dsft_state/manifest.json"})
    CHECK(std::filesystem::exists(output / name));
  CHECK(std::filesystem::exists(output / (with_lora ? "adapter_model.safetensors" : "model.safetensors")));

  // The trained model judged from its files gives the last loss; resolved.yaml runs as it stands.
  std::vector<std::string> eval = {"eval", "--json", (output / "resolved.yaml").string(), "eval.metrics=[loss]"};
  eval.push_back(with_lora ? "lora.adapter=" + output.string() : "model.path=" + output.string());
  const auto judged = test::run_dsft(eval, folder);
  INFO(judged.err);
  REQUIRE(judged.exit_code == 0);
  CHECK(nlohmann::json::parse(judged.out)["eval_loss"].get<double>() < 0.2);

  // And it says what it learned.
  std::vector<std::string> generate = {
      "generate",         "--json",
      "--model",          with_lora ? (folder / "model").string() : output.string(),
      "--prompt",         "<|im_start|>user\nWhat is number 3?<|im_end|>\n<|im_start|>assistant\n",
      "--temperature",    "0",
      "--max-new-tokens", "16"};
  if (with_lora) generate.insert(generate.end(), {"--adapter", output.string()});
  const auto said = test::run_dsft(generate, folder);
  INFO(said.err);
  REQUIRE(said.exit_code == 0);
  CHECK(said.out.find("It is 1 and d.") != std::string::npos);
}

TEST_CASE("Tokenizer and template of an adapter's folder are used with it, and eval says what it judges",
          "[end_to_end]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, std::string(kLora) + kTraining);
  const auto run = test::run_dsft({"train", recipe.string(), "training.max_steps=1"}, folder);
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  // the template came with the recipe: the base has none
  const std::string model = (folder / "model").string(), adapter = (folder / "run").string();
  folder.write("hi.json", R"([{"role": "user", "content": "Hi"}])");
  const std::vector<std::string> generate = {
      "generate", "--json", "--model", model, "--messages", (folder / "hi.json").string(), "--max-new-tokens", "1"};
  CHECK(test::run_dsft(generate, folder).exit_code != 0);
  std::vector<std::string> with_adapter = generate;
  with_adapter.insert(with_adapter.end(), {"--adapter", adapter});
  const auto said = test::run_dsft(with_adapter, folder);
  INFO(said.err);
  REQUIRE(said.exit_code == 0);
  const auto ids = [&](const std::string& text) {
    const auto tokenized = test::run_dsft({"tokenize", "--json", "--model", model, "--text", text}, folder);
    return nlohmann::json::parse(tokenized.out)["token_ids"];
  };
  CHECK(nlohmann::json::parse(said.out)[0]["prompt_token_ids"] ==
        ids("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"));
  const std::string output = (folder / "scores.jsonl").string();
  const auto scored = test::run_dsft({"score", "--model", model, "--adapter", adapter, "--input",
                                      (folder / "train.jsonl").string(), "--output", output},
                                     folder);
  INFO(scored.err);
  CHECK(scored.exit_code == 0);

  const auto base = test::run_dsft({"eval", recipe.string(), "eval.metrics=[loss]"}, folder);
  CHECK(base.err.find("without an adapter; lora.adapter=" + adapter) != std::string::npos);
  const auto trained =
      test::run_dsft({"eval", recipe.string(), "eval.metrics=[loss]", "lora.adapter=" + adapter}, folder);
  CHECK(trained.err.find("with the adapter in " + adapter) != std::string::npos);
}

TEST_CASE("Two ranks train as one process does", "[end_to_end][slow]") {
  test::TempDir folder;
  const auto recipe =
      test::make_tiny_job(folder, "lora: {r: 16, lora_alpha: 32, lora_dropout: 0.05}\n" + std::string(kTraining));
  // a rate at which rounding is not amplified from step to step, as it is on the way into an overfit
  const std::string rate = "training.learning_rate=1.0e-3", steps = "training.max_steps=20";
  const auto one = test::run_dsft(
      {"launch", "--num-procs", "1", recipe.string(), steps, rate, "training.per_device_train_batch_size=8"}, folder);
  INFO(one.err);
  REQUIRE(one.exit_code == 0);
  const auto expected = test::read_lines(folder / "run/metrics.jsonl");
  const auto two =
      test::run_dsft({"launch", "--num-procs", "2", recipe.string(), steps, rate,
                      "training.per_device_train_batch_size=4", "output_dir=" + (folder / "run2").string()},
                     folder);
  INFO(two.err);
  REQUIRE(two.exit_code == 0);
  const auto actual = test::read_lines(folder / "run2/metrics.jsonl");
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    INFO("step " << i + 1);
    CHECK(std::abs(actual[i]["loss"].get<double>() / expected[i]["loss"].get<double>() - 1) < 1e-5);
    CHECK(std::abs(actual[i]["grad_norm"].get<double>() / expected[i]["grad_norm"].get<double>() - 1) < 1e-5);
  }
}

TEST_CASE("A run that is stopped saves, ends with 75, and continues as if it had not been", "[end_to_end][slow]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, std::string(kLora) + kTraining);
  const auto whole = test::run_dsft({"train", recipe.string(), "output_dir=" + (folder / "whole").string()}, folder);
  REQUIRE(whole.exit_code == 0);

  process::ChildOptions options;
  std::string errors;
  bool has_started = false;
  options.argv = {std::string(DSFT_BIN_DIR) + "/dsft", "train", recipe.string()};
  options.environment = {
      {"DSFT_CACHE", (folder / "cache").string()}, {"OMP_NUM_THREADS", "1"}, {"CUDA_VISIBLE_DEVICES", ""}};
  options.on_line = [&](process::Stream, std::string_view line) {
    errors += std::string(line) + "\n";
    has_started = has_started || line.find("step 1/") != std::string_view::npos;
  };
  process::Child child(std::move(options));
  std::optional<process::ExitStatus> status;
  while (!has_started && !status) status = child.wait_for(std::chrono::milliseconds(20));
  INFO(errors);
  REQUIRE(!status);
  child.send_signal(SIGTERM);
  CHECK(child.wait().exit_code == 75);
  CHECK(std::filesystem::exists(folder / "run/adapter_model.safetensors"));

  const auto continued = test::run_dsft({"train", recipe.string(), "training.resume_from_checkpoint=true"}, folder);
  INFO(continued.err);
  REQUIRE(continued.exit_code == 0);
  const auto expected = test::read_lines(folder / "whole/metrics.jsonl"),
             actual = test::read_lines(folder / "run/metrics.jsonl");
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) CHECK(actual[i]["loss"] == expected[i]["loss"]);
  CHECK(value_of(folder / "run/adapter_model.safetensors") == value_of(folder / "whole/adapter_model.safetensors"));
}

TEST_CASE("What a user gets wrong ends with its exit code and one message", "[end_to_end]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, std::string(kLora) + kTraining);
  struct Case {
    std::vector<std::string> arguments;
    int exit_code;
    const char* message;
  };
  folder.write("cut.jsonl",
               "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": "
               "\"b\"}]}\n{\"messages\": [{\"ro");
  folder.write("notemplate.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
  folder.write("loop.jinja", "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}");
  const std::vector<Case> cases = {
      {{"train", recipe.string(), "training.learnin_rate=1"}, 2, "learning_rate"},
      {{"train", (folder / "absent.yaml").string()}, 2, "absent.yaml"},
      {{"train", recipe.string(), "lora.target_modules=[no_such_proj]"}, 2, "no_such_proj"},
      {{"train", recipe.string(), "model.path=" + (folder / "nowhere").string()}, 4, "nowhere"},
      {{"train", recipe.string(), "data.train=[" + (folder / "cut.jsonl").string() + "]"}, 3, "cut.jsonl:2"},
      {{"train", recipe.string(), "data.chat_template=" + (folder / "loop.jinja").string()}, 3, "loop.jinja"},
      {{"train", recipe.string(), "device=cuda"}, 5, "cuda"},
      {{"frobnicate"}, 2, "frobnicate"},
  };
  for (const Case& c : cases) {
    const auto run = test::run_dsft(c.arguments, folder);
    INFO(c.arguments.back() << "\n" << run.err);
    CHECK(run.exit_code == c.exit_code);
    CHECK(run.err.find(c.message) != std::string::npos);
    CHECK(run.err.find("error: ") == run.err.rfind("error: "));  // one message
  }
  CHECK_FALSE(std::filesystem::exists(folder / "run/adapter_model.safetensors"));
}
