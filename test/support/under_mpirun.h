#pragma once

#include <unistd.h>

#include <string>
#include <vector>

#include "launch/launch_plan.h"
#include "launch/mpirun_version.h"

namespace dsft::test {

/// A plan with a program in the trainer's place.
inline launch::LaunchPlan plan_of(const std::vector<std::string>& program, int num_ranks) {
  launch::LaunchPlan plan;
  plan.num_ranks = num_ranks;
  if (num_ranks > 1) {
    const bool is_new = launch::find_open_mpi_major() >= 5;
    plan.argv = is_new ? std::vector<std::string>{"mpirun", "--map-by", ":OVERSUBSCRIBE", "--output", "tag"}
                       : std::vector<std::string>{"mpirun", "--oversubscribe", "--tag-output"};
    if (::geteuid() == 0) plan.argv.push_back("--allow-run-as-root");
    plan.argv.insert(plan.argv.end(), {"--bind-to", "none", "-n", std::to_string(num_ranks)});
  }
  plan.argv.insert(plan.argv.end(), program.begin(), program.end());
  return plan;
}

}  // namespace dsft::test
