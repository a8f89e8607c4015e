#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace dsft::launch {

/// GPUs that CUDA will show, of `num_devices` in the machine, given CUDA_VISIBLE_DEVICES (none: unset): indices and
/// GPU- or MIG- names up to the first one that is not valid, as the CUDA driver reads it.
int count_visible_gpus(std::optional<std::string_view> cuda_visible_devices, int num_devices);

/// Their numbers where all are given by numbers; else nothing.
std::optional<std::vector<int>> visible_gpu_numbers(std::optional<std::string_view> cuda_visible_devices,
                                                    int num_devices);

}  // namespace dsft::launch
