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
/// ten ranks.
std::filesystem::path rank_folder(const std::filesystem::path& folder, int rank, int num_ranks);

/// A part of the output of a rank that mpirun tags: "[1,3]<stderr>:text".
struct TaggedPart {
  int rank = -1;  ///< of mpirun's own words
  process::Stream stream = process::Stream::kStdout;
  std::string_view text;
  bool ends_line = true;

  bool operator==(const TaggedPart&) const = default;
};

/// The parts of a line of mpirun's output: a rank that writes a line in pieces, or without an end, has others' tags
/// behind its own. `has_space`: the tags of Open MPI 5, which end with a space.
std::vector<TaggedPart> split_tagged(std::string_view line, bool has_space);

/// Takes the output of ranks apart: to their files, their last lines, and what is to be seen.
class RankLogs {
 public:
  using OnLine = std::function<void(process::Stream, std::string_view line)>;

  /// Rank 0's lines and the other ranks' warnings go to `on_line`. `folder`: gets rank_folder() of every rank, whose
  /// files are replaced, or go on where `appends`; empty: no files. What cannot be written throws kUsage.
  RankLogs(const std::filesystem::path& folder, int num_ranks, bool appends, OnLine on_line);
  ~RankLogs();
  RankLogs(const RankLogs&) = delete;  // the streams point here
  RankLogs& operator=(const RankLogs&) = delete;

  /// Takes a line, or a part of one, that a rank has written.
  void add(const TaggedPart& part);
  /// Hands on last lines without an end.
  void finish();

  /// The last lines on stderr of a rank.
  const process::OutputTail& tail(int rank) const;

 private:
  struct Output;

  std::vector<std::unique_ptr<Output>> outputs_;  ///< stdout and stderr of rank 0, of rank 1, ...
  std::vector<process::OutputTail> tails_;
};

}  // namespace dsft::launch
