#pragma once

#include <functional>

#include "comm/communicator.h"

namespace dsft::checkpoint {

/// Runs a step of saving that only some ranks may fail in; afterwards all ranks agree, and all throw where one failed:
/// that one its own error, the others kCheckpoint with its cause. The step makes no collective calls that a rank which
/// fails would miss. Collective.
void run_agreed(comm::Communicator& communicator, const std::function<void()>& step);

}  // namespace dsft::checkpoint
