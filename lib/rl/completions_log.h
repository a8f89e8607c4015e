#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/logger.h"
#include "comm/communicator.h"
#include "report/record_file.h"

namespace dsft::rl {

/// completions.jsonl: what was sampled and what it was worth, one object a completion. Rank 0 writes it; a full disk
/// does not end the run. The file of another run is renamed to completions-<n>.jsonl.
class CompletionsLog final {
 public:
  CompletionsLog(std::filesystem::path path, comm::Communicator& communicator, const Logger& logger);

  /// The run goes on behind this update: what was sampled for later ones is taken out of the file.
  void continue_after(int64_t update) { continued_update_ = update; }
  /// The objects of all ranks, in their order. Collective.
  void write(const std::vector<std::string>& objects);

 private:
  void make_ready();

  std::filesystem::path path_;
  comm::Communicator& communicator_;
  const Logger& logger_;
  std::optional<int64_t> continued_update_;
  std::optional<report::RecordFile> file_;
};

}  // namespace dsft::rl
