#pragma once

#include <functional>

#include "comm/communicator.h"

namespace dsft::comm {

/// Runs `body(communicator)` on `num_ranks` threads of this process, one CPU thread each, CPU tensors only. A rank that
/// throws aborts the others; the first exception is rethrown after all threads have ended. Collectives take place when
/// they are started, and ranks that call different ones get an error that names both.
void run_thread_ranks(int num_ranks, const std::function<void(Communicator&)>& body);

}  // namespace dsft::comm
