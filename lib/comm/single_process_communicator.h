#pragma once

#include "comm/communicator.h"

namespace dsft::comm {

/// One process: every collective is the identity, on tensors of any device.
std::unique_ptr<Communicator> make_single_process_communicator();

}  // namespace dsft::comm
