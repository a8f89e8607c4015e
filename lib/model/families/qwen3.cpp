#include "model/decoder_lm.h"
#include "model/families.h"

namespace dsft::model {

// Qwen3: RMSNorm on each head of q and k before the rotation.
std::shared_ptr<CausalLm> build_qwen3(const spec::ModelSpec& spec, at::TensorOptions options, ParameterMemory memory) {
  return std::make_shared<DecoderLm>(spec, options, memory);
}

}  // namespace dsft::model
