// How runs end and go on: signals, crashes, full disks, other settings, as a user sees them.
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <fstream>
#include <functional>
#include <memory>
#include <thread>

#include "catch_amalgamated.hpp"
#include "end_to_end/run_dsft.h"

using namespace dsft;
namespace fs = std::filesystem;

namespace {

constexpr const char* kSmallLora = "lora: {r: 8, lora_alpha: 16, lora_dropout: 0.05}\n";
constexpr const char* kSixUpdates =
    "training: {max_steps: 6, per_device_train_batch_size: 2, learning_rate: 1.0e-3, save_steps: 2, "
    "report_to: [none]}\n";

using Environment = std::vector<std::pair<std::string, std::string>>;

// Runs dsft, in `directory` where one is given; calls `on_line` with the process for each line.
test::ProgramRun run_program(std::vector<std::string> arguments, const test::TempDir& folder, Environment environment,
                             const std::function<void(process::Child&, std::string_view)>& on_line = {},
                             const fs::path& directory = fs::current_path()) {
  test::ProgramRun run;
  process::ChildOptions options;
  options.argv = {"env", "-C", directory.string(), std::string(DSFT_BIN_DIR) + "/dsft"};
  options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
  options.environment = std::move(environment);
  options.environment.insert(
      options.environment.end(),
      {{"DSFT_CACHE", (folder / "cache").string()}, {"OMP_NUM_THREADS", "1"}, {"CUDA_VISIBLE_DEVICES", ""}});
  std::unique_ptr<process::Child> child;
  options.on_line = [&](process::Stream stream, std::string_view line) {
    (stream == process::Stream::kStdout ? run.out : run.err) += std::string(line) + "\n";
    if (on_line && child) on_line(*child, line);
  };
  child = std::make_unique<process::Child>(std::move(options));
  const process::ExitStatus status = child->wait();
  run.exit_code = status.signal != 0 ? 128 + status.signal : status.exit_code;
  return run;
}

Environment with_fault(const std::string& kind, int call, const fs::path& below) {
  return {{"LD_PRELOAD", std::string(DSFT_BIN_DIR) + "/libdsft_fault_injection.so"},
          {"DSFT_FAULT", kind + ":" + std::to_string(call) + ":" + below.string()}};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

// Two ranks as torchrun places them, each in a directory of its own.
std::array<test::ProgramRun, 2> run_two_ranks(const std::vector<std::string>& arguments, const test::TempDir& folder,
                                              const std::array<fs::path, 2>& directories) {
  const auto port = std::to_string(21'000 + ::getpid() % 20'000);
  std::array<test::ProgramRun, 2> runs;
  const auto run_rank = [&](size_t rank) {
    const std::string number = std::to_string(rank);
    runs[rank] = run_program(arguments, folder,
                             {{"RANK", number},
                              {"WORLD_SIZE", "2"},
                              {"LOCAL_RANK", number},
                              {"MASTER_ADDR", "127.0.0.1"},
                              {"MASTER_PORT", port}},
                             {}, directories[rank]);
  };
  std::thread other(run_rank, 1);
  run_rank(0);
  other.join();
  return runs;
}

const std::string kResume = "training.resume_from_checkpoint=true";

}  // namespace

TEST_CASE("A run killed at any write goes on to the same weights", "[end_to_end][slow]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, std::string(kSmallLora) + kSixUpdates);
  const std::string whole = "output_dir=" + (folder / "whole").string();
  REQUIRE(test::run_dsft({"train", recipe.string(), whole}, folder).exit_code == 0);
  const std::string expected = test::read_file(folder / "whole/adapter_model.safetensors");
  int num_killed = 0;
  for (const int call : {9, 90, 180, 270, 360}) {
    INFO("call " << call);
    fs::remove_all(folder / "run");
    const auto killed = run_program({"train", recipe.string()}, folder, with_fault("kill", call, folder / "run"));
    num_killed += killed.exit_code == 128 + SIGKILL;
    const auto continued = test::run_dsft({"train", recipe.string(), kResume}, folder);
    INFO(continued.err);
    REQUIRE(continued.exit_code == 0);
    CHECK(test::read_file(folder / "run/adapter_model.safetensors") == expected);
    CHECK(test::losses_of(folder / "run") == test::losses_of(folder / "whole"));
  }
  CHECK(num_killed >= 4);
}

TEST_CASE("A disk that fills up costs the saves that it refuses, not the run", "[end_to_end][slow]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, std::string(kSmallLora) + kSixUpdates);
  for (const char* kind : {"enospc", "eio", "short"}) {
    INFO(kind);
    fs::remove_all(folder / "run");
    const auto run = run_program({"train", recipe.string()}, folder, with_fault(kind, 40, folder / "run"));
    INFO(run.err);
    CHECK(run.exit_code == 0);
    CHECK(test::losses_of(folder / "run").size() == 6);
    CHECK(fs::exists(folder / "run/adapter_model.safetensors"));
  }
  fs::remove_all(folder / "run");
  // full for good after the first checkpoint: that one stays, and the run says that its weights could not be written
  test::ProgramRun full;
  for (int call = 100; !fs::exists(folder / "run/checkpoint-2/dsft_state/manifest.json"); call += 40) {
    fs::remove_all(folder / "run");
    full = run_program({"train", recipe.string()}, folder, with_fault("enospc_forever", call, folder / "run"));
  }
  INFO(full.err);
  CHECK(full.exit_code == 4);
  CHECK(contains(full.err, "No space left on device"));
  CHECK(contains(full.err, "The last whole checkpoint is checkpoint-2"));
  const auto continued = test::run_dsft({"train", recipe.string(), kResume}, folder);
  INFO(continued.err);
  CHECK(continued.exit_code == 0);
  CHECK(test::losses_of(folder / "run").size() == 6);
}

TEST_CASE("Two ranks that are asked to stop save, end with 75 and go on, also as one", "[end_to_end][slow]") {
  test::TempDir folder;
  const std::string zero =
      GENERATE(as<std::string>(), "", "stage: 1", "stage: 2", "stage: 3", "stage: 2, offload_optimizer: {device: cpu}",
               "stage: 3, offload_optimizer: {device: cpu}, offload_param: {device: cpu}");
  INFO(zero);
  const bool is_sharded = !zero.empty();
  const std::string what = is_sharded ? "zero: {" + zero + "}\n" : kSmallLora;
  const std::string stays = "zero.offload_optimizer.device=none", weights_stay = "zero.offload_param.device=none";
  // all weights at the adapter's rate would run away from each other in the last bits
  const std::string rate = is_sharded ? "training.learning_rate=1.0e-5" : "training.learning_rate=1.0e-3";
  const auto recipe = test::make_tiny_job(folder, what + kSixUpdates);
  const std::string steps = "training.max_steps=120";
  const auto whole = test::run_dsft({"launch", "--num-procs", "2", recipe.string(), steps, rate, stays, weights_stay,
                                     "output_dir=" + (folder / "whole").string(), "training.save_strategy=no"},
                                    folder);
  INFO(whole.err);
  REQUIRE(whole.exit_code == 0);
  bool is_asked = false;
  ::signal(SIGHUP, SIG_DFL);  // also where the tests run under nohup
  const auto stopped =
      run_program({"launch", "--num-procs", "2", recipe.string(), steps, rate, "training.save_strategy=no"}, folder, {},
                  [&](process::Child& child, std::string_view line) {
                    if (is_asked || line.find("step 1/") == std::string_view::npos) return;
                    is_asked = true;
                    child.send_signal(zero == "stage: 1" ? SIGHUP : SIGTERM);
                  });
  INFO(stopped.err);
  REQUIRE(stopped.exit_code == 75);
  CHECK(contains(stopped.err, "Asked to stop: saving after step"));
  for (const fs::directory_entry& entry : fs::directory_iterator(folder / "run"))
    if (entry.is_directory()) CHECK(fs::exists(entry.path() / "dsft_state/optimizer-1-of-2.safetensors") == is_sharded);
  // one rank with twice the rows has the same updates, whatever it offloads
  std::vector<std::string> command = {"launch", "--num-procs", "1",     recipe.string(),
                                      steps,    rate,          kResume, "training.per_device_train_batch_size=4"};
  if (contains(zero, "stage: 2")) command.push_back(stays);
  const auto continued = test::run_dsft(command, folder);
  INFO(continued.err);
  REQUIRE(continued.exit_code == 0);
  const auto expected = test::losses_of(folder / "whole"), actual = test::losses_of(folder / "run");
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) CHECK(std::abs(actual[i] / expected[i] - 1) < 1e-5);
}

TEST_CASE("A rank that torchrun's like has placed says once why it ends", "[end_to_end][slow]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, std::string(kSmallLora) + kSixUpdates);
  // a length that the schedule cannot have: found when all ranks have met
  const auto runs = run_two_ranks({"train", recipe.string(), "training.lr_scheduler_type=warmup_stable_decay",
                                   "training.lr_scheduler_kwargs={num_decay_steps: 9}"},
                                  folder, {fs::current_path(), fs::current_path()});
  for (const test::ProgramRun& run : runs) {
    INFO(run.err);
    CHECK((run.exit_code == 2 || run.exit_code == 6));  // the one that comes later may hear of the other's end first
    const std::string lines = "\n" + run.err;
    const size_t first = lines.find("\nerror");
    REQUIRE(first != std::string::npos);
    CHECK(lines.find("\nerror", first + 1) == std::string::npos);
  }
  CHECK((runs[0].exit_code == 2 || runs[1].exit_code == 2));
}

TEST_CASE("One rank of two that runs out of memory ends the run with 5", "[end_to_end][slow]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, std::string(kSmallLora) + kSixUpdates);
  const Environment little_memory = {{"LD_PRELOAD", std::string(DSFT_BIN_DIR) + "/libdsft_fault_injection.so"},
                                     {"DSFT_FAULT_ALLOCATION", "200000"}};
  for (const char* ranks : {"1", "2"}) {
    const auto run = run_program({"launch", "--num-procs", ranks, recipe.string()}, folder, little_memory);
    INFO(run.err);
    CHECK(run.exit_code == 5);
    CHECK(contains(run.err, "out of memory"));
    CHECK(contains(run.err, "try a smaller training.per_device_train_batch_size"));
    // the estimate beside what was measured, once, though each rank runs out of memory
    CHECK(count(run.err, "Measured: ") == 1);
    CHECK(contains(run.err, "Estimated (stage 0): "));
    CHECK(contains(run.err, "training.per_device_train_batch_size: 1 with twice the gradient_accumulation_steps"));
    CHECK(contains(test::read_file(folder / "run/out_of_memory.txt"), "What takes less, most first:"));
  }
  // where batches cannot be looked for, nobody is told to
  const auto run = run_program({"launch", "--num-procs", "2", recipe.string(), "zero.stage=3"}, folder, little_memory);
  INFO(run.err);
  CHECK(run.exit_code == 5);
  CHECK(contains(run.err, "try a smaller training.per_device_train_batch_size"));
  CHECK_FALSE(contains(run.err, "auto_find_batch_size"));
}

TEST_CASE("What an earlier run says of its memory is gone on every host, also where each has its own output_dir",
          "[end_to_end][slow]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, std::string(kSmallLora) + kSixUpdates);
  const std::array<fs::path, 2> hosts = {folder / "a", folder / "b"};
  for (const fs::path& host : hosts) {
    fs::create_directories(host / "run");
    std::ofstream(host / "run/out_of_memory.txt") << "Measured: long ago";
  }
  for (const test::ProgramRun& run :
       run_two_ranks({"train", recipe.string(), "output_dir=run", "training.max_steps=1"}, folder, hosts)) {
    INFO(run.err);
    CHECK(run.exit_code == 0);
  }
  for (const fs::path& host : hosts) CHECK_FALSE(fs::exists(host / "run/out_of_memory.txt"));
}

TEST_CASE("Texts and scores that the host has no memory for end with 5 and what takes less", "[end_to_end][slow]") {
  test::TempDir folder;
  test::make_tiny_job(folder, std::string(kSmallLora) + kSixUpdates);
  const Environment little_memory = {{"LD_PRELOAD", std::string(DSFT_BIN_DIR) + "/libdsft_fault_injection.so"},
                                     {"DSFT_FAULT_ALLOCATION", "200000"}};
  const std::string model = (folder / "model").string(), rows = (folder / "train.jsonl").string();
  const auto texts = run_program({"generate", "--model", model, "--input", rows}, folder, little_memory);
  INFO(texts.err);
  CHECK(texts.exit_code == 5);
  CHECK(contains(texts.err, "Try fewer rows of --input at a time"));
  CHECK_FALSE(contains(texts.err, "In training"));
  const auto scores =
      run_program({"score", "--model", model, "--input", rows, "--output", (folder / "scores.jsonl").string()}, folder,
                  little_memory);
  INFO(scores.err);
  CHECK(scores.exit_code == 5);
  CHECK(contains(scores.err, "Try shorter rows"));
}

TEST_CASE("A run of many updates leaves what has slowed it", "[end_to_end][slow]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, std::string(kSmallLora) + kSixUpdates);
  const auto run = run_program({"launch", "--num-procs", "2", recipe.string(), "training.max_steps=12"}, folder, {});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const auto advice = nlohmann::json::parse(test::read_file(folder / "run/advice.json"));
  // parts of an update are not longer than it
  const double step = advice["step_seconds"], waits = advice["wait_seconds"], optimizer = advice["optimizer_seconds"];
  CHECK(step > 0);
  CHECK(waits > 0);
  CHECK(waits < step);
  CHECK(optimizer > 0);
  CHECK(optimizer < step);
  CHECK(advice["peak_memory_gib"] > 0);
  for (const auto& item : advice["advice"])
    CHECK(contains(run.err, "to go faster: " + item["sentence"].get<std::string>()));
}

TEST_CASE("A run for whose rows the host has no memory ends with 5 and says what could help", "[end_to_end]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, std::string(kSmallLora) + kSixUpdates);
  std::string words;
  while (words.size() < 5'000'000) words += "word ";
  folder.write("train.jsonl", R"({"text": ")" + words + "\"}\n");
  const auto run = run_program(
      {"train", recipe.string()}, folder,
      {{"LD_PRELOAD", std::string(DSFT_BIN_DIR) + "/libdsft_fault_injection.so"}, {"DSFT_FAULT_NEW", "4000000"}});
  INFO(run.err);
  CHECK(run.exit_code == 5);
  CHECK(contains(run.err, "error: out of memory\n"));
  CHECK(contains(run.err, "try a smaller training.per_device_train_batch_size"));
}

TEST_CASE("A run that goes on with other settings is told", "[end_to_end]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, std::string(kSmallLora) + kSixUpdates);
  REQUIRE(test::run_dsft({"train", recipe.string(), "training.max_steps=2"}, folder).exit_code == 0);

  const auto other_adapter =
      test::run_dsft({"train", recipe.string(), kResume, "lora.r=4", "lora.target_modules=[q_proj]"}, folder);
  INFO(other_adapter.err);
  CHECK(other_adapter.exit_code == 4);
  CHECK(contains(other_adapter.err, "lora.r: saved with 8, the recipe has 4"));
  CHECK(contains(other_adapter.err, "lora.target_modules"));
  CHECK_FALSE(contains(other_adapter.err, "internal error"));

  const std::string rows = test::read_file(folder / "train.jsonl");
  folder.write("train.jsonl", rows + rows);
  const auto other_data = test::run_dsft({"train", recipe.string(), kResume, "data.shuffle=false"}, folder);
  INFO(other_data.err);
  CHECK(other_data.exit_code == 0);
  CHECK(contains(other_data.err, "data.shuffle and the tokens of data.train have changed"));
}

TEST_CASE("full_determinism is taken, and a CPU run is the same to the last bit as without", "[end_to_end]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, std::string(kSmallLora) + kSixUpdates);
  for (const char* value : {"true", "false"}) {
    const auto run = test::run_dsft({"train", recipe.string(), std::string("training.full_determinism=") + value,
                                     "output_dir=" + (folder / value).string()},
                                    folder);
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
  }
  CHECK(test::read_file(folder / "true/adapter_model.safetensors") ==
        test::read_file(folder / "false/adapter_model.safetensors"));
}

TEST_CASE("eval counts the rows of the loss and those of the metrics that generate", "[end_to_end]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, kSixUpdates);
  const auto run = test::run_dsft({"eval", "--json", recipe.string(), "eval.metrics=[loss, exact_match]",
                                   "eval.num_samples=3", "eval.max_new_tokens=4"},
                                  folder);
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const auto document = nlohmann::json::parse(run.out);
  CHECK(document["num_rows"] == 8);
  CHECK(document["num_rows_generated"] == 3);
}
