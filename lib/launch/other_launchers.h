#pragma once

#include <functional>

namespace dsft::launch {

/// Gives the value of an environment variable, or nullptr; std::getenv, or a test's.
using GetVariable = std::function<const char*(const char* name)>;

/// Throws kUsage where mpirun, srun, torchrun or a launcher that speaks PMI has placed several processes: each would
/// start a job of its own. An allocation of Slurm without a step, and one process alone, pass.
void require_no_other_launcher(const GetVariable& get_variable);

/// The same of launchers whose processes cannot find each other: all but mpirun, srun and torchrun.
void require_joinable_launcher(const GetVariable& get_variable);

}  // namespace dsft::launch
