#pragma once

#include "checkpoint/tensor_file.h"
#include "spec/model_spec.h"

namespace dsft::checkpoint {

/// Fills the parameters of a model (Hugging Face's names; any floating type and device, allocated already) from a
/// checkpoint's weights. Strict: missing, unexpected and misshapen tensors are all listed before anything is read. Each
/// weight is read once, by offset, by several threads, and converted on the way. With tied embeddings an lm_head.weight
/// in the file must equal the embedding (transformers would untie the model otherwise). Throws kCheckpoint.
void load_weights(const spec::ModelSpec& spec, const io::SafetensorsSet& weights, const NamedTensors& parameters,
                  int num_threads = 4);

/// With tied embeddings: fails with kCheckpoint where the file's lm_head.weight differs from the embedding.
void require_tied_head(const spec::ModelSpec& spec, const io::SafetensorsSet& weights);

}  // namespace dsft::checkpoint
