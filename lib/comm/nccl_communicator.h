#pragma once

#include <c10/core/Device.h>

#include "comm/communicator.h"

namespace dsft::comm {

/// The ranks of `control` on tensors of `device`, each rank with a GPU of its own. Its collectives go to a stream of
/// their own: start_* returns at once, and Work::wait() has the current stream wait, not the host. A fault that NCCL
/// sees in the background ends them all; the next call then throws. Collective over `control`, which hands NCCL's id
/// round and is not used later. Where dsft is built without NCCL: one kCommunication error.
std::unique_ptr<Communicator> make_nccl_communicator(c10::Device device, Communicator& control);

}  // namespace dsft::comm
