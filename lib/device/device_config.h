#pragma once

#include <array>

#include "config/words.h"

namespace dsft::device {

/// Where to compute: kAuto takes CUDA where a GPU is visible and the build has it.
enum class DeviceChoice { kAuto, kCuda, kCpu };

constexpr auto words_of(DeviceChoice) {
  return std::to_array<config::Word<DeviceChoice>>(
      {{"auto", DeviceChoice::kAuto}, {"cuda", DeviceChoice::kCuda}, {"cpu", DeviceChoice::kCpu}});
}

}  // namespace dsft::device
