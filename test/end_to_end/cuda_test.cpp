// The path of training on one CUDA device, against the same path on the CPU.
#include <cmath>

#include "catch_amalgamated.hpp"
#include "end_to_end/run_dsft.h"

using namespace dsft;

namespace {

bool has_gpu(const test::TempDir& folder) {
  const auto facts = nlohmann::json::parse(test::run_dsft({"env", "--json"}, folder, "0").out);
  return facts["cuda_built_in"].get<bool>() && !facts["gpus"].empty();
}

std::filesystem::path make_job(const test::TempDir& folder, bool with_lora) {
  return test::make_tiny_job(folder,
                             std::string(with_lora ? "lora: {r: 16, lora_alpha: 32, lora_dropout: 0.05}\n" : "") +
                                 "training: {max_steps: 20, per_device_train_batch_size: 4, "
                                 "gradient_accumulation_steps: 2, learning_rate: 1.0e-3, save_steps: 10, "
                                 "lr_scheduler_type: cosine, report_to: [none]}\n");
}

std::vector<nlohmann::json> train(const test::TempDir& folder, std::vector<std::string> arguments,
                                  const std::string& name) {
  arguments.push_back("output_dir=" + (folder / name).string());
  const auto run = test::run_dsft(arguments, folder, "0");
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  return test::read_lines(folder / name / "metrics.jsonl");
}

double largest_difference(const std::vector<nlohmann::json>& a, const std::vector<nlohmann::json>& b, const char* key) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, std::abs(a[i][key].get<double>() / b[i][key].get<double>() - 1));
  return largest;
}

}  // namespace

TEST_CASE("Training on a GPU gives the CPU's losses and gradient norms", "[end_to_end][gpu]") {
  test::TempDir folder;
  if (!has_gpu(folder)) SKIP("no GPU");
  const bool with_lora = GENERATE(true, false);
  const std::string recipe = make_job(folder, with_lora).string();
  const auto expected = train(folder, {"launch", recipe, "device=cpu"}, "cpu");
  const std::string checkpointing = GENERATE("false", "true");
  const auto actual =
      train(folder, {"launch", recipe, "device=cuda", "training.gradient_checkpointing=" + checkpointing}, "cuda");
  REQUIRE(actual.size() == 20);
  // numerics.md: losses 1e-4, gradient norms 1e-3 between two programs; here only the kernels differ
  CHECK(largest_difference(actual, expected, "loss") < 1e-4);
  CHECK(largest_difference(actual, expected, "grad_norm") < 1e-3);
  CHECK(actual.back()["peak_memory_gib"].get<double>() > 0.0);
  CHECK(actual.back()["peak_memory_gib"].get<double>() < 0.5);
}

TEST_CASE("A run on a GPU continues from its checkpoint and its files answer on GPU and CPU alike",
          "[end_to_end][gpu]") {
  test::TempDir folder;
  if (!has_gpu(folder)) SKIP("no GPU");
  const std::string recipe = make_job(folder, true).string();
  const auto whole = train(folder, {"launch", recipe, "device=cuda"}, "run");
  const auto continued = train(
      folder,
      {"launch", recipe, "device=cuda", "training.resume_from_checkpoint=" + (folder / "run/checkpoint-10").string()},
      "continued");
  for (const nlohmann::json& line : continued) {
    const nlohmann::json& before = whole[line["step"].get<size_t>() - 1];
    CHECK(std::abs(line["loss"].get<double>() / before["loss"].get<double>() - 1) < 1e-4);
  }
  std::vector<nlohmann::json> scores;
  for (const char* device : {"cpu", "cuda"}) {
    const std::filesystem::path output = folder / (std::string(device) + ".jsonl");
    const auto run = test::run_dsft(
        {"score", "--model", (folder / "model").string(), "--adapter", (folder / "run").string(), "--input",
         (folder / "train.jsonl").string(), "--output", output.string(), "--device", device, "--dtype", "fp32"},
        folder, "0");
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    scores.push_back(test::read_lines(output));
  }
  REQUIRE(scores[0].size() == 8);
  for (size_t row = 0; row < 8; ++row)
    for (size_t i = 1; i < scores[0][row]["log_probs"].size(); ++i)
      CHECK(std::abs(scores[0][row]["log_probs"][i].get<double>() - scores[1][row]["log_probs"][i].get<double>()) <
            1e-4);
  std::vector<std::string> texts;
  for (const char* device : {"cpu", "cuda"}) {
    const auto run = test::run_dsft({"generate", "--json", "--model", (folder / "model").string(), "--adapter",
                                     (folder / "run").string(), "--prompt", "What is number 3?", "--temperature", "0",
                                     "--max-new-tokens", "16", "--device", device, "--dtype", "fp32"},
                                    folder, "0");
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    texts.push_back(nlohmann::json::parse(run.out)[0]["text"]);
  }
  CHECK(texts[0] == texts[1]);
}

TEST_CASE("bf16 and fp16 on a GPU overfit eight examples, and evaluation judges them", "[end_to_end][gpu]") {
  test::TempDir folder;
  if (!has_gpu(folder)) SKIP("no GPU");
  const std::string dtype = GENERATE("bf16", "fp16");
  const std::string recipe = make_job(folder, true).string();
  const auto metrics = train(folder,
                             {"launch", recipe, "device=cuda", "model.dtype=" + dtype, "training.max_steps=100",
                              "training.learning_rate=1.0e-2", "training.lr_scheduler_type=constant"},
                             "run");
  // at this rate a single update may be off
  double sum = 0;
  for (size_t i = metrics.size() - 10; i < metrics.size(); ++i) sum += metrics[i]["loss"].get<double>();
  CHECK(sum / 10 < 0.3);
  const auto judged = test::run_dsft({"eval", "--json", recipe, "device=cuda", "model.dtype=" + dtype,
                                      "eval.metrics=[loss, exact_match]", "lora.adapter=" + (folder / "run").string()},
                                     folder, "0");
  INFO(judged.err);
  REQUIRE(judged.exit_code == 0);
  const auto result = nlohmann::json::parse(judged.out);
  CHECK(result["eval_loss"].get<double>() < 0.3);
  CHECK(result["eval_exact_match"].get<double>() > 0.8);
}

TEST_CASE("A GPU that has too little memory for a run ends it with 5, the estimate and what to try",
          "[end_to_end][gpu]") {
  test::TempDir folder;
  if (!has_gpu(folder)) SKIP("no GPU, or built without CUDA");
  const auto recipe = make_job(folder, /*with_lora=*/true);
  // torch may take less of the GPU than its first block
  const auto run = test::run_dsft({"train", recipe.string(), "device=cuda"}, folder, "0",
                                  {{"PYTORCH_CUDA_ALLOC_CONF", "per_process_memory_fraction:0.00001"}});
  INFO(run.err);
  CHECK(run.exit_code == 5);
  CHECK_THAT(run.err, Catch::Matchers::ContainsSubstring("out of GPU memory"));
  CHECK_THAT(run.err, Catch::Matchers::ContainsSubstring(" of tensors of 0.0 GiB of memory. Estimated (stage 0): "));
  CHECK_THAT(run.err, Catch::Matchers::ContainsSubstring("What takes less, most first:"));
}

TEST_CASE("A run on a GPU with room says that a larger micro-batch fits", "[end_to_end][gpu]") {
  test::TempDir folder;
  if (!has_gpu(folder)) SKIP("no GPU, or built without CUDA");
  const auto recipe = make_job(folder, /*with_lora=*/true);
  const auto run = test::run_dsft({"train", recipe.string(), "device=cuda"}, folder, "0");
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const auto advice = nlohmann::json::parse(std::ifstream(folder / "run/advice.json"));
  INFO(advice.dump(2));
  CHECK(advice["step_seconds"] > 0);
  CHECK(advice["data_seconds"] < advice["step_seconds"]);
  CHECK(advice["optimizer_seconds"] > 0);
  CHECK(advice["optimizer_seconds"] < advice["step_seconds"]);
  CHECK(advice["wait_seconds"] == 0);  // there is nobody to wait for
  CHECK_THAT(run.err, Catch::Matchers::ContainsSubstring("to go faster: There is room for "
                                                         "training.per_device_train_batch_size: 8 with "
                                                         "gradient_accumulation_steps: 1"));
}
