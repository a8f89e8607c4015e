#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <stdexcept>
#include <string>

#include "support/temp_dir.h"

namespace dsft::test {

/// What this process writes to its standard error as long as this lives: what a Logger says.
class CapturedStderr {
 public:
  CapturedStderr() : kept_(::dup(STDERR_FILENO)) {
    std::fflush(stderr);
    const int file = ::open((folder_ / "stderr").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (kept_ < 0 || file < 0 || ::dup2(file, STDERR_FILENO) < 0) throw std::runtime_error("cannot capture stderr");
    ::close(file);
  }
  ~CapturedStderr() {
    std::fflush(stderr);
    ::dup2(kept_, STDERR_FILENO);
    ::close(kept_);
  }
  CapturedStderr(const CapturedStderr&) = delete;
  CapturedStderr& operator=(const CapturedStderr&) = delete;

  std::string text() const {
    std::fflush(stderr);
    return read_file(folder_ / "stderr");
  }

 private:
  TempDir folder_;
  int kept_;
};

}  // namespace dsft::test
