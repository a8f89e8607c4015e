#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>

namespace dsft::device {

/// Does `work` and writes what the host and the device did meanwhile, operation by operation and kernel by kernel, as
/// a Chrome trace (JSON that chrome://tracing and ui.perfetto.dev show). Throws kData where the file cannot be written.
void trace(const std::filesystem::path& path, at::Device device, const std::function<void()>& work);

}  // namespace dsft::device
