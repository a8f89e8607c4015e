// Kernels that may start while the kernel before them ends (programmatic dependent launch), so that the time between
// two short kernels is put to use: what does not depend on earlier kernels of the step is read meanwhile.
#pragma once

#include <type_traits>

#include "kernels/cuda_common.cuh"

namespace dsft::kernels::cuda {

/// Returns when the kernels before this one are complete and their writes are seen. A kernel that is launched by
/// launch_early calls it on every thread, before it reads what they wrote and before it writes anything.
__device__ inline void wait_for_earlier_kernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the next kernel start, if that is launched by launch_early, where this one's blocks leave room.
__device__ inline void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// The major compute capability of the current device; 0 where it is not known.
inline int compute_capability() {
  int device = 0, major = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess)
    return 0;
  return major;
}

struct LaunchShape {
  dim3 grid;
  unsigned threads;
  size_t shared_bytes = 0;
  unsigned cluster_height = 1;  ///< blocks of a cluster, neighbours in grid.y
};

/// Launches a kernel that calls wait_for_earlier_kernels.
template <typename... Parameters>
void launch_early(void (*kernel)(Parameters...), const LaunchShape& shape, cudaStream_t stream,
                  const std::type_identity_t<Parameters>&... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  cudaLaunchAttribute attributes[2] = {};
  config.attrs = attributes;
  if (compute_capability() >= 9) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster_height > 1) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    auto& cluster = attributes[config.numAttrs++].val.clusterDim;
    cluster.x = cluster.z = 1;
    cluster.y = shape.cluster_height;
  }
  cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);  // check_launch asks how it went
}

}  // namespace dsft::kernels::cuda
