#include "checkpoint/run_state.h"

#include <cstdlib>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "comm/single_process_communicator.h"
#include "comm/thread_ranks.h"
#include "io/file.h"
#include "io/json.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using namespace dsft;
using namespace dsft::checkpoint;
using dsft::test::read_file;
using dsft::test::require_error;
using dsft::test::TempDir;
namespace fs = std::filesystem;

namespace {

RunState state_at(int64_t step, int64_t run = 1) {
  RunState state;
  state.run = run;
  state.trainer.global_step = step;
  state.trainer.epoch = 0.5;
  state.trainer.best_metric = 1.25;
  state.trainer.log_history = {R"({"loss":2.5,"step":1})"};
  state.position = R"({"epoch":0,"item":4})";
  state.random = R"({"seed":42})";
  state.optimizer.emplace_back("exp_avg.a", at::full({3}, 0.1 * static_cast<double>(step)));
  return state;
}

void save(const TempDir& dir, int64_t step, int64_t run = 1) {
  const auto comm = comm::make_single_process_communicator();
  save_run_state(
      dir.path(), state_at(step, run),
      [](const fs::path& folder) { io::write_text_file(folder / "adapter_model.safetensors", "weights"); }, *comm);
}

}  // namespace

TEST_CASE("a run's state is saved whole and read back", "[checkpoint]") {
  TempDir dir;
  save(dir, 10);
  const fs::path checkpoint = dir / "checkpoint-10";
  const RunState state = load_run_state(checkpoint);
  const auto optimizer = open_optimizer_state(checkpoint);
  at::Tensor last = at::zeros({2});
  optimizer.at(0).read(1, last);
  REQUIRE(at::equal(last, state_at(10).optimizer[0].second.narrow(0, 1, 2)));
  REQUIRE(state.position == state_at(10).position);
  REQUIRE((state.trainer.best_metric == 1.25 && state.trainer.log_history == state_at(10).trainer.log_history &&
           !state.trainer.best_global_step));
  REQUIRE_FALSE(find_checkpoint_fault(checkpoint));
  REQUIRE(read_file(checkpoint / "trainer_state.json").ends_with("}\n"));
  std::string manifest = read_file(checkpoint / "dsft_state/manifest.json");
  const std::string shards = "\"optimizer_shards\": 1";
  for (const char* damage : {"\"optimizer_shards\": 0", "\"optimizer_shards\": 4294967297", "\"shards\": 1"}) {
    std::string damaged = manifest;
    damaged.replace(damaged.find(shards), shards.size(), damage);
    std::ofstream(checkpoint / "dsft_state/manifest.json") << damaged;
    require_error(ErrorKind::kCheckpoint, {"manifest"}, [&] { load_run_state(checkpoint); });
  }
}

TEST_CASE("what every rank holds alike is written once, shards by those that hold them", "[checkpoint]") {
  const int num_shards = GENERATE(1, 2);
  TempDir dir;
  comm::run_thread_ranks(3, [&](comm::Communicator& communicator) {
    RunState state = state_at(4);
    state.optimizer_shards = num_shards;
    state.optimizer = {{concat("part.", num_shards == 1 ? 0 : communicator.rank()), at::full({2}, 7.0)}};
    save_run_state(
        dir.path(), state, [](const fs::path&) {}, communicator);
  });
  const auto optimizer = open_optimizer_state(dir / "checkpoint-4");
  REQUIRE(optimizer.size() == static_cast<size_t>(num_shards));
  CHECK(optimizer.back().name == concat("part.", num_shards - 1));
  CHECK(fs::exists(dir / concat("checkpoint-4/dsft_state/optimizer-0-of-", num_shards, ".safetensors")));
}

TEST_CASE("a checkpoint without a part of its optimizer is not whole", "[checkpoint]") {
  TempDir dir;
  save(dir, 10);
  save(dir, 20);
  const fs::path manifest = dir / "checkpoint-20/dsft_state/manifest.json";
  std::string text = test::read_file(manifest);
  const std::string shards = "\"optimizer_shards\": 1";
  text.replace(text.find(shards), shards.size(), "\"optimizer_shards\": 2");
  std::ofstream(manifest) << text;
  const auto fault = find_checkpoint_fault(dir / "checkpoint-20");
  REQUIRE(fault);
  CHECK(fault->find("optimizer-0-of-2.safetensors is not in its manifest") != std::string::npos);
  CHECK(find_newest_checkpoint(dir.path()).path == dir / "checkpoint-10");
}

TEST_CASE("every rank is told why another one could not save", "[checkpoint]") {
  TempDir dir;
  std::mutex mutex;
  std::vector<std::string> messages;
  comm::run_thread_ranks(3, [&](comm::Communicator& communicator) {
    RunState state = state_at(4);
    state.optimizer_shards = 3;
    // only what rank 1 has cannot be written
    if (communicator.rank() == 1) state.optimizer = {{"odd", at::ones({1}, at::kComplexDouble)}};
    try {
      save_run_state(
          dir.path(), state, [](const fs::path&) {}, communicator);
    } catch (const Error& error) {
      const std::lock_guard lock(mutex);
      messages.push_back(error.full_message());
    }
  });
  REQUIRE(messages.size() == 3);
  for (const std::string& message : messages) CHECK(message.find("Complex") != std::string::npos);
  CHECK_FALSE(fs::exists(dir / "checkpoint-4"));
}

TEST_CASE("the newest whole checkpoint is found, and the others are named with the reason", "[checkpoint]") {
  TempDir dir;
  REQUIRE_FALSE(find_newest_checkpoint(dir / "missing").path);
  for (const int64_t step : {2, 10, 30, 40, 50}) save(dir, step);
  std::ofstream(dir / "checkpoint-50/adapter_model.safetensors") << "weighty";
  fs::remove(dir / "checkpoint-40/dsft_state/manifest.json");
  fs::remove(dir / "checkpoint-30/dsft_state/position.json");
  fs::create_directory(dir / "checkpoint-60.tmp");
  const auto found = find_newest_checkpoint(dir.path());
  REQUIRE(found.path == dir / "checkpoint-10");
  REQUIRE(found.ignored.size() == 3);
  REQUIRE(found.ignored[0].find("checksum") != std::string::npos);
  REQUIRE(found.ignored[1].find("not finished") != std::string::npos);
  REQUIRE(found.ignored[2].find("position.json is missing") != std::string::npos);
}

TEST_CASE("a manifest that names what no file can be called is damaged, not a crash", "[checkpoint]") {
  TempDir dir;
  save(dir, 10);
  const std::string entry = R"(": {"size": 1, "xxh64": "0"}}})";
  dir.write("checkpoint-10/dsft_state/manifest.json",
            R"({"format": 1, "optimizer_shards": 1, "files": {")" + std::string(5000, 'a') + entry);
  const auto fault = find_checkpoint_fault(dir / "checkpoint-10");
  REQUIRE(fault);
  REQUIRE(fault->find("is missing") != std::string::npos);
}

TEST_CASE("old checkpoints are rotated, the best and the newest are kept", "[checkpoint]") {
  TempDir dir;
  for (const int64_t step : {1, 2, 3, 4}) save(dir, step);
  rotate_checkpoints(dir.path(), {.limit = 0, .last_step = 4});
  REQUIRE(list_checkpoints(dir.path()).size() == 4);
  rotate_checkpoints(dir.path(), {.limit = 2, .last_step = 4, .best_step = 1});
  REQUIRE(list_checkpoints(dir.path()) == std::vector<fs::path>{dir / "checkpoint-4", dir / "checkpoint-1"});
  rotate_checkpoints(dir.path(), {.limit = 1, .last_step = 4, .best_step = 1});
  REQUIRE(list_checkpoints(dir.path()).size() == 2);
}

TEST_CASE("what holds the model alone is not continued, and what can be continued is kept", "[checkpoint]") {
  TempDir dir;
  save(dir, 1, 1);
  for (const int64_t step : {2, 3}) {
    const auto comm = comm::make_single_process_communicator();
    RunState state = state_at(step);
    state.optimizer.clear();
    save_run_state(
        dir.path(), state, [](const fs::path&) {}, *comm);
  }
  REQUIRE_FALSE(is_resumable(dir / "checkpoint-3"));
  const FoundCheckpoint found = find_newest_checkpoint(dir.path());
  REQUIRE(found.path == dir / "checkpoint-1");
  REQUIRE(found.ignored.size() == 2);
  REQUIRE_THAT(found.ignored[0], Catch::Matchers::ContainsSubstring("model alone"));
  rotate_checkpoints(dir.path(), {.limit = 2, .last_step = 3, .last_resumable_step = 1});
  REQUIRE(list_checkpoints(dir.path()) == std::vector<fs::path>{dir / "checkpoint-3", dir / "checkpoint-1"});
}

TEST_CASE("runs in one folder are told apart, the later one is the newer", "[checkpoint]") {
  TempDir dir;
  REQUIRE(next_run(dir.path()) == 1);
  for (const int64_t step : {100, 200}) save(dir, step, 1);
  REQUIRE(next_run(dir.path()) == 2);
  for (const int64_t step : {1, 2, 3}) save(dir, step, 2);
  fs::create_directories(dir / "checkpoint-500");  // of another program
  REQUIRE(find_newest_checkpoint(dir.path()).path == dir / "checkpoint-3");
  REQUIRE(rotate_checkpoints(dir.path(), {.limit = 1, .run = 2, .last_step = 3}).empty());
  REQUIRE(list_checkpoints(dir.path()) == std::vector<fs::path>{dir / "checkpoint-500", dir / "checkpoint-3",
                                                                dir / "checkpoint-200", dir / "checkpoint-100"});
}

TEST_CASE("a long history of logs is saved as it is and read back", "[checkpoint]") {
  TempDir dir;
  TrainerState state;
  for (int step = 1; step <= 300'000; ++step)
    state.log_history.push_back(concat("{\"step\":", step, ",\"text\":\"", std::string(250, 'x'), "\"}"));
  write_trainer_state(dir.path(), state);
  REQUIRE(fs::file_size(dir / "trainer_state.json") > (64 << 20));
  REQUIRE(read_trainer_state(dir.path()).log_history == state.log_history);
}

TEST_CASE("a save looks for space before it writes", "[checkpoint]") {
  TempDir dir;
  const auto comm = comm::make_single_process_communicator();
  RunState state = state_at(1);
  state.weights_size_bytes = uint64_t{1} << 60;
  bool has_begun = false;
  require_error(ErrorKind::kCheckpoint, {"no space for"}, [&] {
    save_run_state(
        dir.path(), state, [&](const fs::path&) { has_begun = true; }, *comm);
  });
  REQUIRE_FALSE(has_begun);
  REQUIRE(fs::is_empty(dir.path()));
}

TEST_CASE("a save that fails leaves no folder and the older checkpoints", "[checkpoint]") {
  TempDir dir;
  save(dir, 1);
  const auto comm = comm::make_single_process_communicator();
  const auto full_disk = [](const fs::path& folder) {
    fail(ErrorKind::kCheckpoint, "Cannot write ", folder.string(), ": No space left on device.");
  };
  require_error(ErrorKind::kCheckpoint, {"No space left"},
                [&] { save_run_state(dir.path(), state_at(2), full_disk, *comm); });
  REQUIRE(std::distance(fs::directory_iterator(dir.path()), fs::directory_iterator()) == 1);
}

TEST_CASE("a crash, a full disk or a short write at any call leaves the new checkpoint or the one before",
          "[checkpoint][slow]") {
  TempDir dir;
  const std::string bin = DSFT_BIN_DIR;
  const std::string command = "LD_PRELOAD=" + bin + "/libdsft_fault_injection.so OMP_NUM_THREADS=1 " + bin +
                              "/save_under_faults " + dir.path().string() + " > " + (dir / "said").string() + " 2>&1";
  const int status = std::system(command.c_str());
  INFO(read_file(dir / "said"));
  REQUIRE(status == 0);
}
