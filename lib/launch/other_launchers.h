#pragma once

#include "process/launcher.h"

namespace dsft::launch {

using process::GetVariable;

/// Throws kUsage where mpirun, srun, torchrun or a launcher that speaks PMI has placed several processes: each would
/// start a job of its own. An allocation of Slurm without a step, and one process alone, pass.
void require_no_other_launcher(const GetVariable& get_variable);

/// The same of launchers whose processes cannot find each other: all but mpirun, srun and torchrun.
void require_joinable_launcher(const GetVariable& get_variable);

}  // namespace dsft::launch
