#include "checkpoint/shards.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/tensor_file.h"
#include "io/file.h"

namespace dsft::checkpoint {

namespace {

int64_t size_of(const io::TensorInfo& tensor) {
  return tensor.num_elements() * io::dtype_size(tensor.dtype);
}

std::vector<std::vector<io::TensorInfo>> split_into_shards(std::vector<io::TensorInfo> tensors,
                                                           int64_t max_shard_bytes) {
  std::vector<std::vector<io::TensorInfo>> shards(1);
  int64_t filled = 0;
  for (io::TensorInfo& tensor : tensors) {
    const int64_t size = size_of(tensor);
    if (!shards.back().empty() && filled + size > max_shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    filled += size;
    shards.back().push_back(std::move(tensor));
  }
  return shards;
}

}  // namespace

ShardWriter::ShardWriter(const std::filesystem::path& directory, std::vector<io::TensorInfo> tensors,
                         int64_t max_shard_bytes)
    : directory_(directory), shards_(split_into_shards(std::move(tensors), max_shard_bytes)) {
  open_shard();
}

std::string ShardWriter::file_name(size_t shard) const {
  if (shards_.size() == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", shard + 1, shards_.size());
  return name;
}

void ShardWriter::open_shard() {
  writer_ = std::make_unique<io::SafetensorsWriter>(directory_ / file_name(shard_), shards_[shard_], kWeightsMetadata);
  position_ = 0;
}

io::SafetensorsWriter& ShardWriter::next() {
  if (position_ == shards_[shard_].size()) {
    writer_->finish();
    ++shard_;
    DSFT_CHECK(shard_ < shards_.size(), "more tensors are written than were declared");
    open_shard();
  }
  ++position_;
  return *writer_;
}

void ShardWriter::finish() {
  writer_->finish();
  DSFT_CHECK(shard_ + 1 == shards_.size() && position_ == shards_[shard_].size(),
             "fewer tensors were written than were declared");
  if (shards_.size() == 1) return;
  nlohmann::json index;
  int64_t total = 0;
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    for (const io::TensorInfo& tensor : shards_[shard]) {
      total += size_of(tensor);
      index["weight_map"][tensor.name] = file_name(shard);
    }
  }
  index["metadata"]["total_size"] = total;
  io::write_text_file(directory_ / "model.safetensors.index.json", index.dump(2) + "\n");
}

}  // namespace dsft::checkpoint
