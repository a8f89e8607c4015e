#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"

namespace dsft::io {

/// Largest header that the format's own reader takes, in bytes.
constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;
/// Largest number of tensors that dsft takes from one file.
constexpr size_t kMaxSafetensorsEntries = 1'000'000;
/// Largest number of dimensions of a tensor (torch's own).
constexpr size_t kMaxSafetensorsDimensions = 64;

/// Most text that dsft takes as metadata: a note of a few words, not a place for data.
constexpr size_t kMaxSafetensorsMetadata = 4 << 20;

/// What a header says: the tensors in the order of their offsets (relative to the end of the header) and the metadata.
struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;
  std::map<std::string, std::string> metadata;
};

/// Parses the JSON text of a header and checks everything that the format promises: known types, no name twice, offsets
/// that start at 0, leave no hole and end at `data_size`, and sizes that equal shape x type without overflow. Throws
/// kCheckpoint naming file, tensor and values.
SafetensorsHeader parse_safetensors_header(std::string_view text, uint64_t data_size,
                                           const std::filesystem::path& path);

/// The JSON text of a header, padded with spaces to a multiple of 8 bytes.
std::string format_safetensors_header(const std::vector<TensorInfo>& tensors,
                                      const std::map<std::string, std::string>& metadata);

}  // namespace dsft::io
