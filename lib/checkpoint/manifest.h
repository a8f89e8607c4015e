#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace dsft::checkpoint {

/// Folder of a checkpoint that holds what dsft alone reads.
constexpr const char* kStateFolder = "dsft_state";

/// Who wrote a checkpoint, and when in the run.
struct ManifestOrigin {
  int64_t run = 0;  ///< which run of its output_dir: RunState::run
  int64_t step = 0;
  int num_ranks = 1;
  int optimizer_shards = 1;  ///< RunState::optimizer_shards
};

/// Writes dsft_state/manifest.json: the origin, and size and XXH64 of every other file of the folder. Throws
/// kCheckpoint where a part of the optimizer is not seen.
void write_manifest(const std::filesystem::path& checkpoint, const ManifestOrigin& origin);

/// The name in dsft_state/ of one of so many files that hold the optimizer together.
std::string optimizer_file(int shard, int num_shards);

/// How many files hold the optimizer of a checkpoint; at least 1.
int num_optimizer_shards(const std::filesystem::path& checkpoint);

}  // namespace dsft::checkpoint
