#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace dsft::apps {

/// A GPU of this machine.
struct Gpu {
  std::string name;
  int64_t memory_bytes = 0;
};

/// What NVML says; loaded on demand, so that a machine without a driver needs nothing.
struct GpuList {
  std::vector<Gpu> gpus;
  std::string driver;   ///< version; empty without a driver
  std::string problem;  ///< why the driver could not be asked; empty where there is none or all went well
};

GpuList list_gpus();

/// The GPUs of this machine; none where dsft was built without CUDA.
int count_gpus();

/// The GPUs that a run started here would use: those that CUDA_VISIBLE_DEVICES lets it see, and none where dsft was
/// built without CUDA.
int count_usable_gpus();

}  // namespace dsft::apps
