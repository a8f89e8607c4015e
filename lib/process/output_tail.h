#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <string_view>

namespace dsft::process {

/// The last lines of a program's output, to be shown when it has failed.
class OutputTail {
 public:
  explicit OutputTail(size_t max_lines = 40) : max_lines_(max_lines) {}

  void add(std::string_view line) {
    lines_.emplace_back(line);
    if (lines_.size() > max_lines_) lines_.pop_front();
  }

  bool is_empty() const { return lines_.empty(); }

  /// The lines, each with its newline.
  std::string text() const {
    std::string all;
    for (const std::string& line : lines_) all += line + "\n";
    return all;
  }

 private:
  size_t max_lines_;
  std::deque<std::string> lines_;
};

}  // namespace dsft::process
