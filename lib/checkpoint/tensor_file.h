#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "io/safetensors.h"

namespace dsft::checkpoint {

/// Tensors with their names in a file, in an order that is kept.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

at::ScalarType to_scalar_type(io::DType dtype);
io::DType to_file_dtype(at::ScalarType type);

/// Reads one tensor of a set in its own type, on the CPU.
at::Tensor read_tensor(const io::SafetensorsSet& weights, const io::TensorInfo& info);
at::Tensor read_tensor(const io::SafetensorsFile& file, const io::TensorInfo& info);

/// What transformers' loaders look for in a file.
inline const std::map<std::string, std::string> kWeightsMetadata = {{"format", "pt"}};

/// Writes tensors (any device, each in its own type) into one file with this metadata. Throws kCheckpoint where the
/// disk is full.
void write_tensors(const std::filesystem::path& path, const NamedTensors& tensors,
                   const std::map<std::string, std::string>& metadata = kWeightsMetadata);

/// Writes a tensor's bytes as the next part of a file; `type`: the declared one, to which it is converted.
void write_tensor(io::SafetensorsWriter& writer, const at::Tensor& tensor, at::ScalarType type);

/// The file entries of tensors, each in its own type.
std::vector<io::TensorInfo> describe_tensors(const NamedTensors& tensors);

/// A file entry of this shape and type.
io::TensorInfo describe_tensor(const std::string& name, const std::vector<int64_t>& shape, at::ScalarType type);

}  // namespace dsft::checkpoint
