#include "checkpoint/stored_weights.h"

#include "checkpoint/sharded_model.h"

namespace dsft::checkpoint {

StoredWeights StoredWeights::open(const std::filesystem::path& directory) {
  if (is_sharded_model(directory)) return open_shards(read_sharded_index(directory));
  io::SafetensorsSet set = io::SafetensorsSet::open(directory);
  StoredWeights weights = of(set);
  weights.set_ = std::move(set);
  return weights;
}

StoredWeights StoredWeights::of(const io::SafetensorsSet& set) {
  StoredWeights weights;
  weights.directory_ = set.files().front().path().parent_path();
  for (const io::SafetensorsFile& file : set.files())
    for (const io::TensorInfo& info : file.tensors())
      weights.add(info.name, {.shape = info.shape, .dtype = info.dtype, .runs = {{&file, &info, 0}}});
  return weights;
}

const StoredTensor* StoredWeights::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

}  // namespace dsft::checkpoint
