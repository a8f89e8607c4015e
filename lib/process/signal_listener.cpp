#include "process/signal_listener.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace dsft::process {

SignalListener::SignalListener(const std::vector<int>& signals) {
  sigset_t mask;
  sigemptyset(&mask);
  for (int signal : signals) sigaddset(&mask, signal);
  ::pthread_sigmask(SIG_BLOCK, &mask, &previous_mask_);
  struct sigaction by_default = {};
  by_default.sa_handler = SIG_DFL;
  for (int signal : signals) {
    struct sigaction previous = {};
    ::sigaction(signal, &by_default, &previous);
    previous_actions_.emplace_back(signal, previous);
  }
  descriptor_ = FileDescriptor(::signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC));
  if (descriptor_.get() < 0) fail(ErrorKind::kInternal, "cannot listen for signals: ", std::strerror(errno));
}

SignalListener::~SignalListener() {
  while (next()) {
    // a signal left unread would be delivered, and end the program, when the mask is lifted
  }
  for (const auto& [signal, action] : previous_actions_) ::sigaction(signal, &action, nullptr);
  ::pthread_sigmask(SIG_SETMASK, &previous_mask_, nullptr);
}

std::optional<int> SignalListener::next() {
  signalfd_siginfo info;
  if (::read(descriptor_.get(), &info, sizeof info) != sizeof info) return std::nullopt;
  return static_cast<int>(info.ssi_signo);
}

}  // namespace dsft::process
