#include "model/families.h"

namespace dsft::model {

const std::vector<Family>& families() {
  static const std::vector<Family> table = {
      {"llama", build_llama},
      {"qwen2", build_qwen2},
      {"qwen3", build_qwen3},
  };
  return table;
}

}  // namespace dsft::model
