#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/model_slices.h"
#include "checkpoint/save_model.h"
#include "checkpoint/stored_weights.h"
#include "comm/communicator.h"

/// A model whose weights ranks wrote as they held them (zero.stage3_gather_16bit_weights_on_model_save: false):
///
///   sharded_weights-<rank>-of-<n>.safetensors   flat tensors "<name>@<first element>", a rank's slices
///   sharded_weights.json                        {format, dtype, tensors: [{name, shape}], shards: [{file, size,
///   xxh64}]}
///
/// beside config.json and the tokenizer's files. sharded_weights.json comes last; its tensors stand in the model's
/// order.
namespace dsft::checkpoint {

constexpr const char* kShardedWeightsIndex = "sharded_weights.json";

/// "sharded_weights-0-of-2.safetensors"
std::string sharded_weights_file(int rank, int num_ranks);

/// Writes a model of which each rank has these slices; all have the same tensors in the same order. Collective.
void save_sharded_model(const std::filesystem::path& directory, const std::vector<TensorSlice>& slices,
                        const SaveModelOptions& options, comm::Communicator& communicator);

/// Whether a folder holds such a model's sharded_weights.json.
bool is_sharded_model(const std::filesystem::path& directory);

/// What its sharded_weights.json says.
struct ShardedIndex {
  struct Shard {
    std::string file;
    uint64_t size = 0;
    std::string xxh64;
  };
  std::filesystem::path directory;
  io::DType dtype = io::DType::kF32;
  std::vector<std::pair<std::string, std::vector<int64_t>>> tensors;  ///< names and shapes, in the model's order
  std::vector<Shard> shards;                                          ///< by rank
};

/// Reads it, and no other file. Throws kCheckpoint.
ShardedIndex read_sharded_index(const std::filesystem::path& directory);

/// Opens such a model. Each of its files must be there with its size and have the parts that make its tensors up; their
/// contents are not read. Throws kCheckpoint.
StoredWeights open_shards(const ShardedIndex& index);

/// Reads its files and compares their checksums. Throws kCheckpoint where one is damaged or of another save.
void verify_shards(const ShardedIndex& index);

}  // namespace dsft::checkpoint
