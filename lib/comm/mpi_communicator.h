#pragma once

#include "comm/communicator.h"

namespace dsft::comm {

/// All ranks that mpirun started, on CPU tensors. Calls MPI_Init_thread, so at most once in a process.
std::unique_ptr<Communicator> make_mpi_communicator();

}  // namespace dsft::comm
