#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "rewards/sample.h"

namespace dsft::rewards {

/// What one sample gets from each function, or some samples from one.
using Row = std::vector<std::optional<double>>;

/// The samples of one call of Scorer::submit(), and what they have got so far.
struct Submission {
  int64_t step = 0;
  int64_t first_index = 0;
  std::vector<Sample> samples;
  std::vector<Row> rewards;
};

/// Samples of a submission that one function judges in one go.
struct Chunk {
  std::shared_ptr<Submission> submission;
  size_t function = 0;
  size_t begin = 0;
  size_t end = 0;

  size_t size() const { return end - begin; }
  int64_t step() const { return submission->step; }
  std::span<const Sample> samples() const { return std::span(submission->samples).subspan(begin, size()); }
  int64_t index(size_t place) const { return submission->first_index + static_cast<int64_t>(begin + place); }
  std::string describe_loss() const {
    const std::string what = size() == 1 ? concat("sample ", index(0), " gets")
                                         : concat("samples ", index(0), " to ", index(size() - 1), " get");
    return concat("; step ", step(), ", ", what, " no value");
  }
};

/// Where those who judge chunks hand in what they found, from any thread.
class ChunkOutcomes {
 public:
  virtual ~ChunkOutcomes() = default;
  virtual void finish(const Chunk& chunk, Row values) = 0;
  virtual void finish_failed(const Chunk& chunk, const std::string& reason) = 0;
  /// A line for the user about a function.
  virtual void say(size_t function, const std::string& text) = 0;
  /// A process has said its name, or could not be started (once for each).
  virtual void has_started(size_t function, const std::optional<std::string>& fault) = 0;
};

}  // namespace dsft::rewards
