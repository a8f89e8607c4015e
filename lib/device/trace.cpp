#include "device/trace.h"

#include <torch/csrc/autograd/profiler_kineto.h>

#include <fstream>
#include <set>

#include "base/error.h"
#include "device/device.h"

namespace dsft::device {

namespace profiler = torch::profiler::impl;

void trace(const std::filesystem::path& path, at::Device device, const std::function<void()>& work) {
  // before the work, and because the profiler says nothing where it cannot write
  if (!std::ofstream(path)) fail(ErrorKind::kData, "the trace cannot be written to ", path.string());
  std::set<profiler::ActivityType> activities = {profiler::ActivityType::CPU};
  if (device.is_cuda()) activities.insert(profiler::ActivityType::CUDA);
  const profiler::ProfilerConfig config(profiler::ProfilerState::KINETO, false, true);
  torch::autograd::profiler::prepareProfiler(config, activities);
  torch::autograd::profiler::enableProfiler(config, activities);
  work();
  synchronize(device);
  torch::autograd::profiler::disableProfiler()->save(path.string());
}

}  // namespace dsft::device
