#pragma once

#include "checkpoint/model_files.h"
#include "checkpoint/shards.h"
#include "checkpoint/tensor_file.h"
#include "checkpoint/writing_ranks.h"

namespace dsft::checkpoint {

/// How a model is written.
struct SaveModelOptions {
  std::filesystem::path source;          ///< folder of the model it came from: config.json, tokenizer, template
  at::ScalarType dtype = at::kBFloat16;  ///< type of the weights in the files
  std::optional<std::string> chat_template = {};  ///< of the recipe, where it brought its own
  int64_t max_shard_bytes = kMaxShardBytes;
};

/// Writes a whole model into a folder: weights under their Hugging Face names (a tied head is not among `parameters`
/// and not written), config.json with the new type, generation_config.json, tokenizer and template. One tensor at a
/// time is converted; of those that the ranks share, a block at a time is whole. Collective.
void save_model(const std::filesystem::path& directory, const NamedTensors& parameters, const SaveModelOptions& options,
                WritingRanks& ranks);
/// The same where this process has all of them.
void save_model(const std::filesystem::path& directory, const NamedTensors& parameters,
                const SaveModelOptions& options);

/// Moves the files of a finished folder into `directory`, replacing files of the same names, and deletes weight files
/// of an earlier save that are not part of the new set (other shards, an old adapter), by the names that transformers
/// and PEFT give them. A reader never finds a half-written file, and where the process is killed midway never old and
/// new shards that load together: the old index goes first, the new one comes last.
void publish_files(const std::filesystem::path& finished, const std::filesystem::path& directory);

}  // namespace dsft::checkpoint
