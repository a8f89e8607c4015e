#pragma once

#include <signal.h>

#include <optional>
#include <utility>
#include <vector>

#include "process/file_descriptor.h"

namespace dsft::process {

/// While it lives, these signals no longer interrupt this thread (nor the threads that it starts): they queue up and
/// are taken by next(). They are heard even where the caller had them ignored, as a shell does for background jobs.
/// Make it before starting threads. Children get their signals as usual.
class SignalListener final {
 public:
  explicit SignalListener(const std::vector<int>& signals);
  ~SignalListener();
  SignalListener(const SignalListener&) = delete;
  SignalListener& operator=(const SignalListener&) = delete;

  /// The next signal that has arrived, if any; does not wait.
  std::optional<int> next();

 private:
  sigset_t previous_mask_;
  std::vector<std::pair<int, struct sigaction>> previous_actions_;
  FileDescriptor descriptor_;
};

}  // namespace dsft::process
