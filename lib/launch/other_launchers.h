#pragma once

#include <functional>

namespace dsft::launch {

/// Gives the value of an environment variable, or nullptr; std::getenv, or a test's.
using GetVariable = std::function<const char*(const char* name)>;

/// Throws kUsage where srun, torchrun or a launcher that speaks PMI has placed several processes and mpirun has not:
/// dsft does not join those yet, and each would train alone into the same output_dir. An allocation of Slurm without a
/// step, and one process alone, pass.
void require_no_other_launcher(const GetVariable& get_variable);

}  // namespace dsft::launch
