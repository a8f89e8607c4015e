#pragma once

#include <cstdint>
#include <filesystem>

namespace dsft::checkpoint {

/// Folder of a checkpoint that holds what dsft alone reads.
constexpr const char* kStateFolder = "dsft_state";

/// Writes dsft_state/manifest.json: step, number of ranks, and size and XXH64 of every other file of the folder.
void write_manifest(const std::filesystem::path& checkpoint, int64_t step, int num_ranks);

}  // namespace dsft::checkpoint
