#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace dsft::process {

/// Cuts a byte stream that arrives in pieces into lines, without their newline. A line longer than 64 KiB is handed on
/// in pieces, so that a program cannot fill the memory.
class LineSplitter {
 public:
  explicit LineSplitter(std::function<void(std::string_view line)> on_line) : on_line_(std::move(on_line)) {}

  void add(std::string_view bytes) {
    for (size_t end = bytes.find('\n'); end != std::string_view::npos; end = bytes.find('\n')) {
      pending_ += bytes.substr(0, end);
      bytes.remove_prefix(end + 1);
      emit();
    }
    pending_ += bytes;
    if (pending_.size() >= kMaxLineBytes) emit();
  }

  /// Hands on a last line without newline.
  void finish() {
    if (!pending_.empty()) emit();
  }

 private:
  static constexpr size_t kMaxLineBytes = 64 << 10;

  void emit() {
    const std::string line = std::move(pending_);
    pending_.clear();
    on_line_(line);
  }

  std::function<void(std::string_view line)> on_line_;
  std::string pending_;
};

}  // namespace dsft::process
