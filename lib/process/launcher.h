#pragma once

#include <functional>

namespace dsft::process {

/// Gives the value of an environment variable, or nullptr; std::getenv, or a test's.
using GetVariable = std::function<const char*(const char* name)>;

/// A launcher whose processes find each other.
enum class Launcher { kNone, kMpirun, kTorchrun, kSrun };

/// The launcher that has placed this process, by the variables that it sets; the first that applies: Open MPI's mpirun,
/// torchrun and its like with several ranks, a step of srun with several tasks. A size that is not a number counts as
/// none for the last two: other programs use these names too.
Launcher find_launcher(const GetVariable& get_variable);

/// The number that a variable holds; 0 where there is none.
int read_number(const GetVariable& get_variable, const char* name);

}  // namespace dsft::process
