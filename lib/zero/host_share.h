#pragma once

#include <cstdint>

#include "device/host_buffer.h"

namespace dsft::zero {

/// How what is offloaded lies in host memory.
struct HostShare {
  device::HostPages pages = device::HostPages::kPinned;
  int64_t num_ranks = 1;  ///< of this host, that take as much at the same time
};

}  // namespace dsft::zero
