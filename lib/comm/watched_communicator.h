#pragma once

#include <memory>

#include "comm/communicator.h"
#include "watchdog/heart.h"

namespace dsft::comm {

/// Whose collectives are told.
enum class WatchedRanks { kControl, kDevice };

/// The same communicator, whose collectives the launcher is told of by number and name: those that are started, and the
/// one that is waited for. Where nobody watches it is given back as it is; null stays null. `heart` must outlive it.
std::unique_ptr<Communicator> watch(std::unique_ptr<Communicator> communicator, watchdog::Heart& heart,
                                    WatchedRanks ranks = WatchedRanks::kControl);

}  // namespace dsft::comm
