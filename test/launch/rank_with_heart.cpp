// A rank for the supervisor's tests: beats as dsft-trainer does, then does what its argument says in rank 1 (of one
// process alone: in rank 0), while the others wait for it in a collective.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "watchdog/heart.h"

using namespace dsft;
using watchdog::PhaseKind;

namespace {

int number(const char* variable, int fallback) {
  const char* text = std::getenv(variable);
  return text ? std::atoi(text) : fallback;
}

void sleep_for(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

void misbehave(const std::string& how) {
  std::fprintf(stderr, "about to %s\n", how.c_str());
  sleep_for(1.2);  // a beat later, so that the launcher has heard of it
  if (how == "die") ::kill(::getpid(), SIGKILL);
  if (how == "stop") ::kill(::getpid(), SIGSTOP);
  if (how == "fail") std::exit(3);
  while (true) sleep_for(1);  // hang
}

}  // namespace

int main(int argc, char** argv) {
  const std::string how = argc > 1 ? argv[1] : "";
  const int rank = number("OMPI_COMM_WORLD_RANK", 0);
  const int size = number("OMPI_COMM_WORLD_SIZE", 1);
  if (how == "stop before" && rank == size - 1) ::kill(::getpid(), SIGSTOP);
  watchdog::Heart heart(std::getenv(watchdog::kAddressVariable), rank);
  heart.enter(PhaseKind::kLong, "loading weights");
  if (how == "sample") {  // in the midst of the first update, which is a slow one
    heart.enter(PhaseKind::kStep, "waiting for its rows", 1);
    heart.enter(PhaseKind::kLong, "sampling");
    heart.enter(PhaseKind::kStep, "backward", 1);
    sleep_for(2.5);
    return 0;
  }
  for (int step = 1; step <= 5; ++step) {
    heart.enter(PhaseKind::kStep, "forward", step);
    sleep_for(0.02);
    heart.enter(PhaseKind::kStep, "backward", step);
    heart.started("all-reduce", step, "layers.0.weight");
  }
  if (how == "finish") return 0;
  if (how == "load" && rank == size - 1) heart.enter(PhaseKind::kLong, "evaluating");
  if (rank == size - 1) misbehave(how);
  heart.waits("all-reduce", 5, "layers.0.weight");
  sleep_for(60);
  return 0;
}
