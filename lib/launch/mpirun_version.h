#pragma once

#include <string_view>

namespace dsft::launch {

/// The first number of Open MPI's version in what `mpirun --version` says; 0 where it is another MPI's mpirun.
int parse_open_mpi_major(std::string_view text);

/// That of the mpirun on PATH: 4 or later. One that is missing, older, or another MPI's throws kUsage.
int find_open_mpi_major();

}  // namespace dsft::launch
