#include "process/job_reaper.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "base/error.h"

namespace dsft::process {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kBetweenScans{10};
constexpr milliseconds kBoundAtTheEnd{2000};

}  // namespace

JobReaper::JobReaper() : others_(find_children(::getpid())) {
  ::prctl(PR_GET_CHILD_SUBREAPER, &previous_);
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
    fail(ErrorKind::kInternal, "cannot adopt orphaned processes: ", std::strerror(errno));
}

JobReaper::~JobReaper() {
  end_all(milliseconds(0), kBoundAtTheEnd);
  ::prctl(PR_SET_CHILD_SUBREAPER, previous_);
}

/// The processes of the job that are there, those that have just ended reaped.
std::vector<ProcessId> JobReaper::reap_and_list() const {
  std::vector<ProcessId> found;
  for (const ProcessId& child : find_children(::getpid())) {
    if (std::find(others_.begin(), others_.end(), child) != others_.end()) continue;
    const std::vector<ProcessId> below = find_descendants(child.pid);
    found.insert(found.end(), below.begin(), below.end());
    if (::waitpid(child.pid, nullptr, WNOHANG) == 0) found.push_back(child);
  }
  return found;
}

std::vector<ProcessId> JobReaper::end_all(milliseconds grace, milliseconds bound) {
  std::vector<ProcessId> left = reap_and_list();
  if (left.empty()) return left;
  const Clock::time_point kill_at = Clock::now() + grace, give_up_at = kill_at + bound;
  if (grace.count() > 0) send_signal(left, SIGTERM);
  while (!left.empty() && Clock::now() < give_up_at) {
    // each time anew: what was found may have started others
    if (Clock::now() >= kill_at) send_signal(left, SIGKILL);
    std::this_thread::sleep_for(kBetweenScans);
    left = reap_and_list();
  }
  return left;
}

}  // namespace dsft::process
