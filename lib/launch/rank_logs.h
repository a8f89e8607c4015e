#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "process/child.h"
#include "process/line_splitter.h"
#include "process/output_tail.h"

namespace dsft::launch {

/// The folder of a rank's output, with its files stdout and stderr: "rank.0", or "rank.00" where there are more than
/// ten ranks, as mpirun's --output-filename names it.
std::filesystem::path rank_folder(const std::filesystem::path& folder, int rank, int num_ranks);

/// Follows the files into which mpirun writes each rank's output: those of rank_folder.
class RankLogs {
 public:
  using OnLine = std::function<void(process::Stream, std::string_view line)>;

  /// Rank 0's lines and the other ranks' warnings go to `on_line`.
  RankLogs(std::filesystem::path folder, int num_ranks, const OnLine& on_line);
  ~RankLogs();
  RankLogs(const RankLogs&) = delete;  // the logs point here
  RankLogs& operator=(const RankLogs&) = delete;

  /// Reads what has been written since the last call.
  void read_new();
  void finish();

  /// The last lines on stderr of a rank.
  const process::OutputTail& tail(int rank) const;

 private:
  struct Log;

  std::vector<std::unique_ptr<Log>> logs_;
  std::vector<process::OutputTail> tails_;
};

}  // namespace dsft::launch
