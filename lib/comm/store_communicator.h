#pragma once

#include "comm/communicator.h"
#include "comm/placement.h"

namespace dsft::comm {

/// All ranks that srun, torchrun or the like has placed, on CPU tensors: they find each other by a c10d TCPStore at the
/// placement's port and talk over TCP. Collective.
std::unique_ptr<Communicator> make_store_communicator(const Placement& placement);

}  // namespace dsft::comm
