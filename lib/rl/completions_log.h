#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/logger.h"
#include "comm/communicator.h"
#include "report/record_file.h"
#include "train/observer.h"

namespace dsft::rl {

/// A line of completions.jsonl, and its place among those of its round.
struct CompletionRecord {
  int64_t group = 0, generation = 0;
  std::string object;  ///< JSON with the number `step` of its update, on one line
};

/// completions.jsonl: what was sampled, in training and in evaluations, and what it was worth, one object a completion,
/// in the order of updates, groups and generations. Rank 0 writes it; a full disk does not end the run, nor does a file
/// that cannot be read, which stays as it is. The file of another run is renamed to completions-<n>.jsonl.
class CompletionsLog final {
 public:
  CompletionsLog(std::filesystem::path path, comm::Communicator& communicator, const Logger& logger);

  /// Makes the file ready, on rank 0, before the first write(). A run that goes on where another ended takes what was
  /// sampled for later updates out of it; any other run begins a file of its own.
  void begin(const train::RunPlan& plan);
  /// The records of a round, on each rank those that it sampled. Collective.
  void write(const std::vector<CompletionRecord>& records);

 private:
  io::FileDescriptor open(const train::RunPlan& plan) const;

  std::filesystem::path path_;
  comm::Communicator& communicator_;
  const Logger& logger_;
  std::optional<report::RecordFile> file_;
};

/// Tells a log how its run begins.
class CompletionsLogStart final : public train::Observer {
 public:
  explicit CompletionsLogStart(std::shared_ptr<CompletionsLog> log) : log_(std::move(log)) {}
  void on_start(const train::RunPlan& plan) override { log_->begin(plan); }

 private:
  std::shared_ptr<CompletionsLog> log_;
};

}  // namespace dsft::rl
