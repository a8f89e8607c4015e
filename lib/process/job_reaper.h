#pragma once

#include <sys/types.h>

#include <chrono>
#include <vector>

#include "process/process_tree.h"

namespace dsft::process {

/// While it lives, processes below this one whose parent has ended become its own children (PR_SET_CHILD_SUBREAPER), so
/// that none of a job is lost from sight, and none is left as a zombie where nobody else reaps. Only one at a time.
class JobReaper final {
 public:
  JobReaper();
  /// Ends at once what still runs.
  ~JobReaper();
  JobReaper(const JobReaper&) = delete;
  JobReaper& operator=(const JobReaper&) = delete;

  /// Ends and reaps every process that has come below this one since the construction: SIGTERM, SIGKILL after `grace`.
  /// Gives those that are there still `bound` after that, because the system does not let them end. No Child of this
  /// process may be alive.
  std::vector<ProcessId> end_all(std::chrono::milliseconds grace, std::chrono::milliseconds bound);

 private:
  std::vector<ProcessId> reap_and_list() const;

  int previous_ = 0;
  std::vector<ProcessId> others_;  ///< children of this process that were there before
};

}  // namespace dsft::process
