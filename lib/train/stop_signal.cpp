#include "train/stop_signal.h"

#include <unistd.h>

#include <array>
#include <csignal>
#include <exception>

#include "base/error.h"

namespace dsft::train {
namespace {

constexpr std::array<int, 4> kSignals = {SIGTERM, SIGINT, SIGUSR1, SIGHUP};

volatile std::sig_atomic_t caught_signal = 0;  // a handler can reach nothing else
bool is_installed = false;
bool is_over = false;
std::array<struct sigaction, kSignals.size()> previous_actions;

void handle(int signal) {
  if (signal == SIGINT && caught_signal != 0) _exit(static_cast<int>(ErrorKind::kInterrupted));
  caught_signal = signal;
}

}  // namespace

StopSignal::StopSignal() {
  DSFT_CHECK(!is_installed, "two StopSignals");
  is_installed = true;
  is_over = false;
  caught_signal = 0;
  struct sigaction action = {};
  action.sa_handler = handle;
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < kSignals.size(); ++i) {
    struct sigaction& previous = previous_actions[i];
    sigaction(kSignals[i], &action, &previous);
    // nohup: the run goes on when its terminal is closed
    if (kSignals[i] == SIGHUP && previous.sa_handler == SIG_IGN) sigaction(SIGHUP, &previous, nullptr);
  }
}

StopSignal::~StopSignal() {
  // a run that fails after it was asked to stop is asked again each second: that must not hide why it failed
  if (!is_over && std::uncaught_exceptions() > 0) ignore_from_now();
  if (!is_over) {
    for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &previous_actions[i], nullptr);
  }
  is_installed = false;
}

void StopSignal::ignore_from_now() {
  for (int signal : kSignals) std::signal(signal, SIG_IGN);
  is_over = true;
}

int StopSignal::caught() const {
  return caught_signal;
}

void StopSignal::end_process(int signal) const {
  std::signal(signal, SIG_DFL);
  std::raise(signal);
  _exit(128 + signal);  // where it is blocked
}

}  // namespace dsft::train
