#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/fault.h"

namespace dsft::config {

/// The keys that a recipe writes (full path), each with its place; null counts as not written.
using Written = std::map<std::string, Position>;

/// What the checks of one section see: which of its keys were written, and where to report. Only what was written can
/// contradict.
class Section {
 public:
  /// `prefix`: the section's path with a dot ("training."), or "" at the top. Borrows the rest.
  Section(std::string prefix, const Written& written, std::vector<Fault>& faults, std::vector<Fault>& warnings)
      : prefix_(std::move(prefix)), written_(written), faults_(faults), warnings_(warnings) {}

  bool is_written(const std::string& key) const { return written_.contains(prefix_ + key); }
  /// Whether a fault was reported at a key.
  bool has_fault(const std::string& key) const;
  /// Where a key was written; where it was not, the innermost section around it that was.
  Position position(const std::string& key) const;

  /// Reports a fault at a key.
  void fault(const std::string& key, std::string message);
  /// Reports something to know about a key, where it was written.
  void warn(const std::string& key, std::string message);
  /// Reports something to know about a value, also where it is the default.
  void remark(const std::string& key, std::string message);
  /// Reports a key that has no effect, where it was written.
  void no_effect(const std::string& key, const std::string& reason);
  /// Reports two written keys that contradict each other, at the later one, naming the place of the other.
  void conflict(const std::string& key, const std::string& other, const std::string& reason);

  /// The same view one level deeper.
  Section inside(const std::string& key) const { return {prefix_ + key + ".", written_, faults_, warnings_}; }

 private:
  std::string prefix_;
  const Written& written_;
  std::vector<Fault>& faults_;
  std::vector<Fault>& warnings_;
};

}  // namespace dsft::config
