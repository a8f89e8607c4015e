#include "model/decoder_lm.h"
#include "model/families.h"

namespace dsft::model {

// Qwen2 and 2.5: q, k and v have a bias, o has none.
std::shared_ptr<CausalLm> build_qwen2(const spec::ModelSpec& spec, at::TensorOptions options, ParameterMemory memory) {
  return std::make_shared<DecoderLm>(spec, options, memory);
}

}  // namespace dsft::model
