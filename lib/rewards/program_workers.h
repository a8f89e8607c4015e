#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "rewards/chunk.h"
#include "rewards/reward_config.h"
#include "rewards/reward_program.h"

namespace dsft::rewards {

struct WorkersOptions {
  size_t function = 0;  ///< which of the entries it is
  ProgramConfig program;
  double start_timeout_s = 60;
  std::filesystem::path log_files =
      {};  ///< of standard errors, to which "-<worker>.log" is added; empty: none are kept
};

/// The processes of one reward program, and the chunks that wait for them. A process that is free is asked for its
/// share of what has come in meanwhile in one request (RequestSize); where that fails, its chunks are asked for again
/// one by one, so that a sample fails by itself. One that fails three times in a row is not started again; when none is
/// left, the program is given up.
class ProgramWorkers final {
 public:
  /// Starts them. `outcomes` outlives it.
  ProgramWorkers(WorkersOptions options, ChunkOutcomes& outcomes);
  /// Waits for them.
  ~ProgramWorkers();
  ProgramWorkers(const ProgramWorkers&) = delete;
  ProgramWorkers& operator=(const ProgramWorkers&) = delete;

  /// Ends what they do, without waiting.
  void stop();
  /// Why a chunk is not taken: the program has been given up. Else it will be finished.
  std::optional<std::string> add(Chunk chunk);

 private:
  struct Waiting {
    Chunk chunk;
    bool is_alone = false;  ///< it was in a request that failed
  };

  void run(int64_t worker);
  int start_first(RewardProgram& program, int64_t worker);
  std::vector<Waiting> take(size_t most);
  void ask(RewardProgram& program, const std::vector<Waiting>& request);
  void lose(std::vector<Waiting> request, const std::string& reason, const std::string& last_words);
  void give_up(int64_t worker);
  std::string name_of(int64_t worker) const;

  const WorkersOptions options_;
  ChunkOutcomes& outcomes_;
  std::atomic<bool> is_stopped_{false};
  std::mutex mutex_;  ///< guards what follows
  std::condition_variable has_work_;
  std::deque<Waiting> waiting_;
  size_t num_waiting_samples_ = 0;
  int64_t num_workers_ = 0;  ///< that still take from it
  std::string why_given_up_;
  std::vector<std::thread> threads_;
};

}  // namespace dsft::rewards
