#include "model/decoder_lm.h"
#include "model/families.h"

namespace dsft::model {

// Llama 2 and 3.x, SmolLM2: biases only where the config has them.
std::shared_ptr<CausalLm> build_llama(const spec::ModelSpec& spec, at::TensorOptions options, ParameterMemory memory) {
  return std::make_shared<DecoderLm>(spec, options, memory);
}

}  // namespace dsft::model
