#pragma once

#include <filesystem>

#include "base/logger.h"
#include "checkpoint/shards.h"

namespace dsft::checkpoint {

/// What consolidate reads and writes.
struct ConsolidateRequest {
  std::filesystem::path checkpoint;  ///< a checkpoint, or the output_dir of a run, with sharded weights
  std::filesystem::path output;      ///< must not exist, or be an empty folder
  int64_t max_shard_bytes = kMaxShardBytes;
};

/// Makes a plain Hugging Face checkpoint of a model whose weights ranks wrote as shards (sharded_model.h): the files
/// that a run with gathered weights writes, byte for byte. One tensor at a time is in memory. The output folder appears
/// whole or not at all. Throws kCheckpoint, or kUsage where the output is there already.
void consolidate(const ConsolidateRequest& request, const Logger& logger);

}  // namespace dsft::checkpoint
