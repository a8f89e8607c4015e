#include "checkpoint/model_slices.h"

#include <torch/types.h>

namespace dsft::checkpoint {

std::vector<TensorSlice> own_slices(const NamedTensors& parameters, const zero::ParameterShards* shards) {
  std::vector<TensorSlice> slices;
  for (const auto& [name, parameter] : parameters) {
    TensorSlice slice{.name = name, .shape = parameter.sizes().vec(), .first = 0, .values = {}};
    if (const zero::GatheredBuffer* buffer = shards ? shards->buffer_of(parameter) : nullptr) {
      const zero::GatheredBuffer::Part part = buffer->own_part(parameter);
      slice.first = part.first;
      slice.values = part.values;
    } else {
      slice.values = parameter.detach().view({-1});
    }
    slices.push_back(std::move(slice));
  }
  return slices;
}

}  // namespace dsft::checkpoint
