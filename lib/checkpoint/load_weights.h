#pragma once

#include "checkpoint/model_slices.h"
#include "checkpoint/stored_weights.h"
#include "checkpoint/tensor_file.h"
#include "spec/model_spec.h"

namespace dsft::checkpoint {

/// How files are read. Each thread has two buffers of a piece where a GPU takes the weights; the defaults keep its link
/// busy from files in the page cache and pin 64 MiB.
struct ReadOptions {
  int num_threads = 8;
  int64_t piece_bytes = int64_t{4} << 20;
};

/// Fills slices of the tensors of a checkpoint, by its names: each rank of a sharded model its own. Reads no more of
/// the files than that. Strict: missing, unexpected and misshapen tensors are all listed before anything is read.
/// Several threads share the pieces, which are converted on the way. Throws kCheckpoint.
void load_slices(const spec::ModelSpec& spec, const StoredWeights& weights, const std::vector<TensorSlice>& slices,
                 const ReadOptions& options = {});

/// Fills the parameters of a model (Hugging Face's names; any floating type, one device, allocated already) from a
/// checkpoint's weights, as load_slices does. With tied embeddings an lm_head.weight in the file must equal the
/// embedding (transformers would untie the model otherwise). Throws kCheckpoint.
void load_weights(const spec::ModelSpec& spec, const io::SafetensorsSet& weights, const NamedTensors& parameters,
                  const ReadOptions& options = {});

/// With tied embeddings: fails with kCheckpoint where the file's lm_head.weight differs from the embedding.
void require_tied_head(const spec::ModelSpec& spec, const io::SafetensorsSet& weights);

}  // namespace dsft::checkpoint
