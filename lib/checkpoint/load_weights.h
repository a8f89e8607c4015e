#pragma once

#include "checkpoint/tensor_file.h"
#include "spec/model_spec.h"

namespace dsft::checkpoint {

/// How files are read. Each thread has two buffers of a piece where a GPU takes the weights; the defaults keep its link
/// busy from files in the page cache and pin 64 MiB.
struct ReadOptions {
  int num_threads = 8;
  int64_t piece_bytes = int64_t{4} << 20;
};

/// Fills the parameters of a model (Hugging Face's names; any floating type, one device, allocated already) from a
/// checkpoint's weights. Strict: missing, unexpected and misshapen tensors are all listed before anything is read. Each
/// weight is read once, in pieces that several threads share, and converted on the way. With tied embeddings an
/// lm_head.weight in the file must equal the embedding (transformers would untie the model otherwise). Throws
/// kCheckpoint.
void load_weights(const spec::ModelSpec& spec, const io::SafetensorsSet& weights, const NamedTensors& parameters,
                  const ReadOptions& options = {});

/// With tied embeddings: fails with kCheckpoint where the file's lm_head.weight differs from the embedding.
void require_tied_head(const spec::ModelSpec& spec, const io::SafetensorsSet& weights);

}  // namespace dsft::checkpoint
