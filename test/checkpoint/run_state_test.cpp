#include "checkpoint/run_state.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "comm/single_process_communicator.h"
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

RunState state_at(int64_t step) {
  RunState state;
  state.trainer.global_step = step;
  state.trainer.epoch = 0.5;
  state.trainer.best_metric = 1.25;
  state.trainer.log_history = R"([{"loss":2.5,"step":1}])";
  state.position = R"({"epoch":0,"item":4})";
  state.random = R"({"seed":42})";
  state.optimizer.emplace_back("exp_avg.a", at::full({3}, 0.1 * static_cast<double>(step)));
  return state;
}

void save(const TempDir& dir, int64_t step) {
  const auto comm = comm::make_single_process_communicator();
  save_run_state(
      dir.path(), state_at(step),
      [](const fs::path& folder) { io::write_text_file(folder / "adapter_model.safetensors", "weights"); }, *comm);
}

}  // namespace

TEST_CASE("a run's state is saved whole and read back", "[checkpoint]") {
  TempDir dir;
  save(dir, 10);
  const fs::path checkpoint = dir / "checkpoint-10";
  const RunState state = load_run_state(checkpoint, 0, 1);
  REQUIRE(at::equal(state.optimizer.at(0).second, state_at(10).optimizer[0].second));
  REQUIRE(state.position == state_at(10).position);
  REQUIRE((state.trainer.best_metric == 1.25 && state.trainer.log_history == state_at(10).trainer.log_history &&
           !state.trainer.best_global_step));
  REQUIRE_FALSE(find_checkpoint_fault(checkpoint));
  REQUIRE(read_file(checkpoint / "trainer_state.json").ends_with("}\n"));
  require_error(ErrorKind::kCheckpoint, {"written by 1 ranks, not by 2"}, [&] { load_run_state(checkpoint, 0, 2); });
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
            R"({"format": 1, "num_ranks": 1, "files": {")" + std::string(5000, 'a') + entry);
  const auto fault = find_checkpoint_fault(dir / "checkpoint-10");
  REQUIRE(fault);
  REQUIRE(fault->find("is missing") != std::string::npos);
}

TEST_CASE("old checkpoints are rotated, the best and the newest are kept", "[checkpoint]") {
  TempDir dir;
  for (const int64_t step : {1, 2, 3, 4}) save(dir, step);
  rotate_checkpoints(dir.path(), 0, {});
  REQUIRE(list_checkpoints(dir.path()).size() == 4);
  rotate_checkpoints(dir.path(), 2, 1);
  REQUIRE(list_checkpoints(dir.path()) == std::vector<fs::path>{dir / "checkpoint-4", dir / "checkpoint-1"});
  rotate_checkpoints(dir.path(), 1, 1);
  REQUIRE(list_checkpoints(dir.path()).size() == 2);
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
