#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace dsft {

/// What kind of thing went wrong; the value is the exit code of the program (docs/exit_codes.md).
enum class ErrorKind {
  kInternal = 1,       ///< a bug of dsft
  kUsage = 2,          ///< command line or recipe
  kData = 3,           ///< rows, rewards; loss or gradients stayed non-finite
  kCheckpoint = 4,     ///< model, tokenizer, adapter or run state
  kDevice = 5,         ///< device missing or out of memory
  kCommunication = 6,  ///< a rank lost, killed or hung
  kStopped = 75,       ///< stopped by a signal after saving
  kInterrupted = 130,  ///< second Ctrl-C
};

/// The one exception type of dsft: a full sentence for the user, its kind, and context lines added on the way up (file,
/// step, rank).
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string message) : std::runtime_error(message), kind_(kind), message_(std::move(message)) {}

  ErrorKind kind() const { return kind_; }
  int exit_code() const { return static_cast<int>(kind_); }
  const std::string& message() const { return message_; }
  const std::vector<std::string>& context() const { return context_; }

  /// Adds one line such as "while reading models/x/config.json"; innermost first.
  Error& add_context(std::string line) {
    context_.push_back(std::move(line));
    return *this;
  }

  /// The message and its context lines, one per line.
  std::string full_message() const;

 private:
  ErrorKind kind_;
  std::string message_;
  std::vector<std::string> context_;
};

/// Joins values into one string with operator<<.
template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Throws an Error of this kind; for what a user or a machine can cause.
template <typename... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
  throw Error(kind, concat(parts...));
}

[[noreturn]] void fail_check(const char* condition, const char* file, int line, const std::string& message);

}  // namespace dsft

/// Checks an invariant of dsft itself; a failure is a bug and ends with exit code 1.
#define DSFT_CHECK(condition, ...)                                                                     \
  do {                                                                                                 \
    if (!(condition)) ::dsft::fail_check(#condition, __FILE__, __LINE__, ::dsft::concat(__VA_ARGS__)); \
  } while (false)
