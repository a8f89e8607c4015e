#pragma once

#include <c10/core/Device.h>

#include "comm/communicator.h"

namespace dsft::comm {

/// The communicator of this process for tensors on `device`: MPI where mpirun placed it (OMPI_COMM_WORLD_SIZE > 1),
/// else the one of a single process. MPI_Init is called here, once in a process, and MPI_Finalize when the communicator
/// and all that were split from it have died. Several ranks on CUDA devices are one clear error (kCommunication).
std::unique_ptr<Communicator> make_communicator(c10::Device device = c10::Device(c10::kCPU));

}  // namespace dsft::comm
