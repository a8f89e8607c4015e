// Kernels that may start while the kernel before them ends (programmatic dependent launch), so that the time between
// two short kernels is put to use: constants, such as frozen weights, are read meanwhile.
#pragma once

#include "kernels/cuda_common.cuh"

namespace dsft::kernels::cuda {

/// Returns when the kernels before this one are complete and their writes are seen. A kernel that is launched by
/// launch_early calls it on every thread, before it writes anything and before it reads anything but constants. Of the
/// kernels before it several may be under way then, for they let it start before they wait themselves: a constant is
/// what had been written when the last kernel began that was launched in the ordinary way.
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

/// Whether the code of a kernel that this GPU runs was compiled for 9.0 or newer, with all that stands behind
/// __CUDA_ARCH__ >= 900: an older GPU's code may also be what a newer one runs.
template <auto kKernel>
bool is_made_for_9_0() {
  static const bool is_made = [] {
    cudaFuncAttributes attributes = {};
    if (cudaFuncGetAttributes(&attributes, kKernel) != cudaSuccess) {
      cudaGetLastError();
      return false;
    }
    return attributes.ptxVersion >= 90;
  }();
  return is_made;
}

/// An attribute of the current device; 0 where it is not known.
inline int device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  if (cudaGetDevice(&device) != cudaSuccess || cudaDeviceGetAttribute(&value, attribute, device) != cudaSuccess)
    return 0;
  return value;
}

struct LaunchShape {
  dim3 grid;
  unsigned threads;
  size_t shared_bytes = 0;
  unsigned cluster_height = 1;  ///< blocks of a cluster, neighbours in grid.y
};

/// Launches a kernel that calls wait_for_earlier_kernels.
template <auto kKernel, typename... Arguments>
void launch_early(const LaunchShape& shape, cudaStream_t stream, const Arguments&... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  cudaLaunchAttribute attributes[2] = {};
  config.attrs = attributes;
  if (is_made_for_9_0<kKernel>()) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster_height > 1) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    auto& cluster = attributes[config.numAttrs++].val.clusterDim;
    cluster.x = cluster.z = 1;
    cluster.y = shape.cluster_height;
  }
  cudaLaunchKernelEx(&config, kKernel, arguments...);  // check_launch asks how it went
}

}  // namespace dsft::kernels::cuda
