#include "checkpoint/sharded_model.h"

#include <torch/types.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "checkpoint/agreed_step.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/json.h"
#include "zero/part_name.h"

namespace dsft::checkpoint {

namespace fs = std::filesystem;

namespace {

constexpr int kFormat = 1;

[[noreturn]] void fail_at_index(const fs::path& directory, const std::string& what) {
  fail(ErrorKind::kCheckpoint, (directory / kShardedWeightsIndex).string(), ": ", what);
}

void require_each_once(const ShardedIndex& index) {
  std::set<std::string> names;
  for (const auto& [name, shape] : index.tensors)
    if (!names.insert(name).second) fail_at_index(index.directory, concat("lists ", name.substr(0, 200), " twice."));
}

std::vector<io::SafetensorsFile> open_files(const ShardedIndex& index) {
  std::vector<io::SafetensorsFile> files;
  for (const ShardedIndex::Shard& shard : index.shards) {
    const fs::path path = index.directory / shard.file;
    std::error_code error;
    if (!fs::exists(path, error))
      fail(ErrorKind::kCheckpoint, path.string(), " is missing: the weights lie in ", index.shards.size(),
           " files, one of each rank that saved them. Copy all of them here.");
    const uint64_t size = fs::file_size(path, error);
    if (!error && size != shard.size)
      fail(ErrorKind::kCheckpoint, path.string(), " has ", size, " bytes in place of ", shard.size,
           ": it was cut, or is of another save. Copy the whole folder again.");
    files.push_back(io::SafetensorsFile::open(path));
  }
  return files;
}

// "name@first"
zero::PartName part_of(const io::SafetensorsFile& file, const std::string& text) {
  const std::optional<zero::PartName> part = zero::parse_part_name(text);
  if (!part) fail(ErrorKind::kCheckpoint, file.path().string(), ": ", text.substr(0, 200), " is no part of a tensor.");
  return *part;
}

int64_t count_elements(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(count, size, &count)) return -1;
  return count;
}

// The parts of all files, by tensor; checked to be of the index's tensors and type.
std::map<std::string, std::vector<StoredRun>> collect_runs(const StoredWeights& weights, const ShardedIndex& index) {
  std::map<std::string, std::vector<StoredRun>> runs;
  for (const auto& [name, shape] : index.tensors) runs[name];
  for (const io::SafetensorsFile& file : weights.files()) {
    for (const io::TensorInfo& info : file.tensors()) {
      const auto [name, first] = part_of(file, info.name);
      const auto found = runs.find(name);
      if (found == runs.end() || info.shape.size() != 1 || info.dtype != index.dtype)
        fail(ErrorKind::kCheckpoint, file.path().string(), ": ", info.name.substr(0, 200), " (",
             io::dtype_name(info.dtype), " ", io::shape_text(info.shape), ") is no part of what ", kShardedWeightsIndex,
             " names: it is of another save.");
      found->second.push_back({&file, &info, first});
    }
  }
  return runs;
}

void require_whole(const fs::path& directory, const std::string& name, const StoredTensor& tensor) {
  const int64_t count = count_elements(tensor.shape);
  if (count < 0) fail_at_index(directory, concat(name, " has the shape ", io::shape_text(tensor.shape), "."));
  int64_t end = 0;
  for (const StoredRun& run : tensor.runs) {
    if (run.first != end)
      fail(ErrorKind::kCheckpoint, run.file->path().string(), ": ", name, run.first > end ? " lacks" : " has twice",
           " elements ", std::min(end, run.first), " to ", std::max(end, run.first),
           ": the files are not of one save.");
    end = run.end();
  }
  if (end != count)
    fail(ErrorKind::kCheckpoint, directory.string(), ": the shards have ", end, " elements of ", name, ", which has ",
         count, ": they are not of one save.");
}

}  // namespace

std::string sharded_weights_file(int rank, int num_ranks) {
  return concat("sharded_weights-", rank, "-of-", num_ranks, ".safetensors");
}

void save_sharded_model(const fs::path& directory, const std::vector<TensorSlice>& slices,
                        const SaveModelOptions& options, comm::Communicator& communicator) {
  const int rank = communicator.rank(), num_ranks = communicator.size();
  at::Tensor mine = at::zeros({2}, at::kLong);  // of the file: size and checksum
  run_agreed(communicator, [&] {
    if (rank == 0)
      copy_model_files(options.source, directory,
                       {.dtype = options.dtype, .tie_word_embeddings = {}, .chat_template = options.chat_template});
    std::vector<io::TensorInfo> infos;
    for (const TensorSlice& slice : slices)
      if (slice.values.numel() > 0)
        infos.push_back(
            describe_tensor(to_text(zero::PartName{slice.name, slice.first}), {slice.values.numel()}, options.dtype));
    const fs::path path = directory / sharded_weights_file(rank, num_ranks);
    io::SafetensorsWriter writer(path, std::move(infos), {{"format", "dsft"}});
    for (const TensorSlice& slice : slices)
      if (slice.values.numel() > 0) write_tensor(writer, slice.values, options.dtype);
    writer.finish();
    mine[0] = static_cast<int64_t>(fs::file_size(path));
    mine[1] = static_cast<int64_t>(io::xxh64_of_file(path));
  });
  at::Tensor all = at::zeros({2 * num_ranks}, at::kLong);
  communicator.all_gather(all, mine);
  run_agreed(communicator, [&] {
    if (rank != 0) return;
    nlohmann::ordered_json index = {{"format", kFormat},
                                    {"dtype", io::dtype_name(to_file_dtype(options.dtype))},
                                    {"shards", nlohmann::ordered_json::array()},
                                    {"tensors", nlohmann::ordered_json::array()}};
    const int64_t* values = all.const_data_ptr<int64_t>();
    for (int shard = 0; shard < num_ranks; ++shard)
      index["shards"].push_back({{"file", sharded_weights_file(shard, num_ranks)},
                                 {"size", values[2 * shard]},
                                 {"xxh64", io::to_hex(static_cast<uint64_t>(values[2 * shard + 1]))}});
    for (const TensorSlice& slice : slices) index["tensors"].push_back({{"name", slice.name}, {"shape", slice.shape}});
    io::write_text_file(directory / kShardedWeightsIndex, index.dump(2) + "\n");
  });
}

bool is_sharded_model(const fs::path& directory) {
  std::error_code error;
  return fs::exists(directory / kShardedWeightsIndex, error);
}

ShardedIndex read_sharded_index(const fs::path& directory) {
  ShardedIndex index{.directory = directory, .dtype = io::DType::kF32, .tensors = {}, .shards = {}};
  const nlohmann::json document =
      io::read_json_file(directory / kShardedWeightsIndex, ErrorKind::kCheckpoint, {.max_size_bytes = 200 << 20});
  try {
    if (document.at("format").get<int>() != kFormat)
      fail_at_index(directory, concat("its format ", document.at("format").get<int>(), " is not ", kFormat,
                                      ", which this version of dsft reads."));
    index.dtype = io::parse_dtype(document.at("dtype").get<std::string>());
    for (const auto& tensor : document.at("tensors"))
      index.tensors.emplace_back(tensor.at("name").get<std::string>(), tensor.at("shape").get<std::vector<int64_t>>());
    for (const auto& shard : document.at("shards"))
      index.shards.push_back({.file = shard.at("file").get<std::string>(),
                              .size = shard.at("size").get<uint64_t>(),
                              .xxh64 = shard.at("xxh64").get<std::string>()});
  } catch (const nlohmann::json::exception& error) {
    fail_at_index(directory, concat("is not what dsft writes: ", error.what()));
  }
  const auto num_shards = static_cast<int>(index.shards.size());
  for (int rank = 0; rank < num_shards; ++rank)
    if (index.shards[rank].file != sharded_weights_file(rank, num_shards))
      fail_at_index(directory, concat("shard ", rank, " of ", num_shards, " is named \"",
                                      index.shards[rank].file.substr(0, 200), "\"."));
  if (num_shards == 0 || index.tensors.empty()) fail_at_index(directory, "names no shards or no tensors.");
  require_each_once(index);
  return index;
}

StoredWeights open_shards(const ShardedIndex& index) {
  StoredWeights weights(index.directory, open_files(index));
  auto runs = collect_runs(weights, index);
  for (const auto& [name, shape] : index.tensors) {
    StoredTensor tensor{.shape = shape, .dtype = index.dtype, .runs = std::move(runs[name])};
    std::sort(tensor.runs.begin(), tensor.runs.end(),
              [](const StoredRun& a, const StoredRun& b) { return a.first < b.first; });
    require_whole(index.directory, name, tensor);
    weights.add(name, std::move(tensor));
  }
  return weights;
}

void verify_shards(const ShardedIndex& index) {
  for (const ShardedIndex::Shard& shard : index.shards)
    if (io::to_hex(io::xxh64_of_file(index.directory / shard.file)) != shard.xxh64)
      fail(ErrorKind::kCheckpoint, (index.directory / shard.file).string(), " does not have the checksum that ",
           kShardedWeightsIndex, " says: it is damaged, or of another save. Copy the whole folder again.");
}

}  // namespace dsft::checkpoint
