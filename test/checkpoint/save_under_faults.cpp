// Saves a checkpoint over and over, each time with another of its system calls spoiled (fault_injection.cpp,
// preloaded), and checks what is left: the new checkpoint or the one before, whole, and no later save in trouble. Each
// try is a process of its own. Ends with 0, or 1 and the first try that went wrong.
#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <sys/wait.h>
#include <torch/types.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/error.h"
#include "checkpoint/run_state.h"
#include "checkpoint/save_model.h"
#include "comm/single_process_communicator.h"
#include "io/atomic_directory.h"
#include "io/file.h"

using namespace dsft;
namespace fs = std::filesystem;

namespace {

// Exit codes of a try.
constexpr int kSaved = 0, kRefused = 3, kNotReached = 10;

using Arm = void (*)(const char*, long, const char*);
using Count = long (*)();

checkpoint::RunState state_at(int64_t step) {
  checkpoint::RunState state;
  state.trainer.global_step = step;
  state.position = R"({"epoch":0,"item":4})";
  state.random = R"({"seed":42})";
  state.optimizer.emplace_back("exp_avg.a", at::full({300}, static_cast<double>(step)));
  return state;
}

void write_weights(const fs::path& folder) {
  io::write_text_file(folder / "adapter_config.json", "{}");
  io::write_text_file(folder / "adapter_model.safetensors", std::string(5000, 'w'));
}

void save(const fs::path& output_dir, int64_t step) {
  const auto communicator = comm::make_single_process_communicator();
  checkpoint::remove_unfinished_checkpoints(output_dir);
  checkpoint::save_run_state(output_dir, state_at(step), write_weights, *communicator);
  checkpoint::rotate_checkpoints(output_dir, {.limit = 1, .last_step = step});
  const io::AtomicDirectory finished(output_dir / "checkpoint-9");
  write_weights(finished.path());
  checkpoint::publish_files(finished.path(), output_dir);
}

int try_to_save(const fs::path& output_dir, const char* kind, long call, Arm arm, Count count) {
  const pid_t child = ::fork();
  if (child == 0) {
    arm(kind, call, output_dir.c_str());
    int code = kSaved;
    try {
      save(output_dir, 2);
    } catch (const std::exception&) {
      code = kRefused;
    }
    ::_exit(count() < call ? kNotReached : code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// "" or what is wrong after a try.
std::string judge(const fs::path& output_dir, int code) {
  const auto found = checkpoint::find_newest_checkpoint(output_dir);
  if (!found.path) return "no whole checkpoint is left";
  const checkpoint::RunState state = checkpoint::load_run_state(*found.path);
  const int64_t step = state.trainer.global_step;
  if (code == kSaved && step != 2) return "what was saved is not there";
  at::Tensor optimizer = at::zeros({300});
  checkpoint::open_optimizer_state(*found.path).at(0).read(0, optimizer);
  if (!at::equal(optimizer, state_at(step).optimizer[0].second)) return "another state is read";
  save(output_dir, 3);
  for (const auto& entry : fs::directory_iterator(output_dir)) {
    const std::string name = entry.path().filename();
    if (name != "checkpoint-3" && !name.starts_with("adapter_")) return "a later save leaves " + name;
  }
  return "";
}

}  // namespace

int main(int argc, char** argv) {
  const auto arm = reinterpret_cast<Arm>(::dlsym(RTLD_DEFAULT, "dsft_fault_arm"));
  const auto count = reinterpret_cast<Count>(::dlsym(RTLD_DEFAULT, "dsft_fault_num_calls"));
  if (argc != 2 || arm == nullptr || count == nullptr) return 2;
  at::set_num_threads(1);
  long num_tries = 0;
  for (const char* kind : {"kill", "enospc", "enospc_forever", "eio", "short"}) {
    for (const bool replaces : {false, true}) {
      for (long call = 1;; ++call, ++num_tries) {
        const fs::path output_dir = fs::path(argv[1]) / std::to_string(num_tries);
        fs::create_directories(output_dir);
        save(output_dir, 1);
        if (replaces) fs::rename(output_dir / "checkpoint-1", output_dir / "checkpoint-2");
        const int code = try_to_save(output_dir, kind, call, arm, count);
        if (code == kNotReached) break;
        const std::string fault = replaces ? "" : judge(output_dir, code);
        if (!fault.empty() || !checkpoint::find_newest_checkpoint(output_dir).path) {
          std::printf("%s at call %ld, code %d%s: %s\n", kind, call, code, replaces ? ", replacing" : "",
                      fault.empty() ? "no whole checkpoint is left" : fault.c_str());
          return 1;
        }
        fs::remove_all(output_dir);
      }
    }
  }
  std::printf("%ld tries\n", num_tries);
  return 0;
}
