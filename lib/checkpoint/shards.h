#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "io/safetensors.h"

namespace dsft::checkpoint {

/// Largest weight file of a checkpoint, as transformers' "5GB".
constexpr int64_t kMaxShardBytes = 5'000'000'000;

/// Writes a model's weights as model.safetensors, or as model-0000i-of-0000n.safetensors with
/// model.safetensors.index.json where they are larger than one shard may be. All tensors are declared first; their
/// bytes follow in that order, so that one tensor at a time is in memory.
class ShardWriter {
 public:
  ShardWriter(const std::filesystem::path& directory, std::vector<io::TensorInfo> tensors,
              int64_t max_shard_bytes = kMaxShardBytes);

  /// The writer into which the next tensor in order goes.
  io::SafetensorsWriter& next();
  /// Ends the last file and writes the index.
  void finish();

 private:
  void open_shard();
  std::string file_name(size_t shard) const;

  std::filesystem::path directory_;
  std::vector<std::vector<io::TensorInfo>> shards_;
  std::unique_ptr<io::SafetensorsWriter> writer_;
  size_t shard_ = 0;     // of writer_
  size_t position_ = 0;  // tensors begun in it
};

}  // namespace dsft::checkpoint
