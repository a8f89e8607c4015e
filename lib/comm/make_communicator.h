#pragma once

#include <c10/core/Device.h>

#include "comm/communicator.h"

namespace dsft::comm {

/// The communicator of this process for CPU tensors: MPI where mpirun placed it, TCP connections where srun or torchrun
/// did (read_placement), else the one of a single process, which serves tensors of any device. MPI_Init is called here,
/// once in a process, and MPI_Finalize when the communicator and all that were split from it have died. Collective.
std::unique_ptr<Communicator> make_communicator();

/// The same ranks for tensors on `device`, where `control` does not serve these: NCCL. Else null. Collective.
std::unique_ptr<Communicator> make_device_communicator(c10::Device device, Communicator& control);

}  // namespace dsft::comm
