#pragma once

#include <mutex>
#include <string>

#include "base/error.h"

namespace dsft {

/// Writes progress and warnings to stderr. Travels as an argument; there is no global logger.
class Logger {
 public:
  /// `rank` of this process; `is_quiet` drops info lines (for --json).
  explicit Logger(int rank = 0, bool is_quiet = false) : rank_(rank), is_quiet_(is_quiet) {}

  /// Prints a line on rank 0 only.
  template <typename... Parts>
  void info(const Parts&... parts) const {
    if (rank_ == 0 && !is_quiet_) write("", concat(parts...));
  }

  /// Prints a warning on rank 0 only: for what is equal on all ranks.
  template <typename... Parts>
  void warn(const Parts&... parts) const {
    if (rank_ == 0) write("warning: ", concat(parts...));
  }

  /// Prints a warning on the calling rank, with its number.
  template <typename... Parts>
  void warn_here(const Parts&... parts) const {
    write(concat("warning (rank ", rank_, "): "), concat(parts...));
  }

  int rank() const { return rank_; }

 private:
  void write(const std::string& prefix, const std::string& text) const;

  int rank_;
  bool is_quiet_;
};

}  // namespace dsft
