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

  /// The run goes on where the file ends.
  void continue_file() { is_new_run_ = false; }
  /// The objects of all ranks, in their order. Collective.
  void write(const std::vector<std::string>& objects);

 private:
  std::filesystem::path path_;
  comm::Communicator& communicator_;
  const Logger& logger_;
  bool is_new_run_ = true;
  std::optional<report::RecordFile> file_;
};

}  // namespace dsft::rl
