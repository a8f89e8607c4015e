// Weights that ranks share: gathered while they are written, or written as shards, read back by other ranks, and made
// a plain checkpoint.
#include "checkpoint/sharded_model.h"

#include <fstream>
#include <mutex>

#include "catch_amalgamated.hpp"
#include "checkpoint/consolidate.h"
#include "checkpoint/load_weights.h"
#include "comm/thread_ranks.h"
#include "nn/parameter_memory.h"
#include "support/file_size_limit.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using namespace dsft;
using namespace dsft::checkpoint;
using comm::Communicator;
using dsft::test::read_file;
using dsft::test::require_error;
using dsft::test::TempDir;
namespace fs = std::filesystem;

namespace {

const fs::path kSharedModel = fs::path(DSFT_SOURCE_DIR) / "test/fixtures/checkpoint/base";
const Logger kSilent(0, true);

// Catch2's assertions belong to the test's own thread.
void expect(bool condition, const char* what) {
  if (!condition) throw std::runtime_error(what);
}

SaveModelOptions options_of(at::ScalarType dtype) {
  return {.source = kSharedModel, .dtype = dtype, .chat_template = "{{ messages }}"};
}

NamedTensors base_parameters(at::ScalarType dtype) {
  NamedTensors parameters;
  const auto set = io::SafetensorsSet::open(kSharedModel);
  for (const auto& tensor : spec::tensor_inventory(spec::read_model_spec(kSharedModel)))
    parameters.emplace_back(tensor.name, read_tensor(set, *set.find(tensor.name)).to(dtype));
  return parameters;
}

/// A rank's parameters, of which it holds its slices; blocks as a model has them.
struct Shared {
  NamedTensors parameters;
  zero::ParameterShards shards;

  Shared(NamedTensors given, Communicator& communicator)
      : parameters(std::move(given)), shards(kBlocks, frozen(), {}, communicator) {}

 private:
  static constexpr int64_t kBlocks = 4;
  std::vector<zero::FrozenParameter> frozen() const {
    std::vector<zero::FrozenParameter> list;
    for (const auto& [name, tensor] : parameters) {
      const size_t layer = name.find("layers.");
      const int64_t block = name.find("embed") != std::string::npos ? 0
                            : layer == std::string::npos            ? kBlocks - 1
                                                                    : 1 + (name[layer + 7] - '0') % (kBlocks - 2);
      list.push_back({tensor, block});
    }
    return list;
  }
};

// The files of a folder with their contents.
std::map<std::string, std::string> contents_of(const fs::path& directory) {
  std::map<std::string, std::string> contents;
  for (const auto& entry : fs::directory_iterator(directory))
    contents[entry.path().filename()] = read_file(entry.path());
  return contents;
}

void save_shards(const fs::path& directory, int num_ranks, at::ScalarType dtype) {
  fs::create_directories(directory);
  comm::run_thread_ranks(num_ranks, [&](Communicator& communicator) {
    Shared shared(base_parameters(dtype), communicator);
    save_sharded_model(directory, own_slices(shared.parameters, &shared.shards), options_of(dtype), communicator);
  });
}

}  // namespace

TEST_CASE("Ranks that share a model write the files of one that has it, a block at a time", "[checkpoint]") {
  const int num_ranks = GENERATE(2, 3);
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  const int64_t limit = GENERATE(int64_t{1} << 40, int64_t{900});
  SaveModelOptions options = options_of(dtype);
  options.max_shard_bytes = limit;
  TempDir dir;
  fs::create_directories(dir / "whole");
  fs::create_directories(dir / "shared");
  save_model(dir / "whole", base_parameters(dtype), options);
  comm::run_thread_ranks(num_ranks, [&](Communicator& communicator) {
    Shared shared(base_parameters(dtype), communicator);
    WritingRanks ranks(communicator, &shared.shards);
    save_model(dir / "shared", shared.parameters, options, ranks);
    // no more than one buffer is whole at a time, and none after
    const auto present = [&] {
      std::set<const zero::GatheredBuffer*> buffers;
      for (const auto& [name, tensor] : shared.parameters)
        if (nn::has_memory(tensor)) buffers.insert(shared.shards.buffer_of(tensor));
      return buffers;
    };
    ranks.write_each(shared.parameters, [&](const at::Tensor& tensor) {
      expect(present() == std::set<const zero::GatheredBuffer*>{shared.shards.buffer_of(tensor)},
             "what is there while a tensor is written");
    });
    expect(present().empty(), "what is there after");
  });
  CHECK(contents_of(dir / "shared") == contents_of(dir / "whole"));
}

TEST_CASE("Where the writing rank fails midway, all ranks throw its error at the same place", "[checkpoint]") {
  const int last_written = GENERATE(0, 3, 11);
  std::mutex mutex;
  std::vector<std::string> messages;
  comm::run_thread_ranks(3, [&](Communicator& communicator) {
    Shared shared(base_parameters(at::kFloat), communicator);
    WritingRanks ranks(communicator, &shared.shards);
    int num_written = 0;
    try {
      ranks.write_each(shared.parameters, [&](const at::Tensor&) {
        if (num_written++ == last_written) fail(ErrorKind::kCheckpoint, "No space left on device");
      });
    } catch (const Error& error) {
      const std::lock_guard lock(mutex);
      messages.push_back(error.full_message());
    }
    for (const auto& [name, tensor] : shared.parameters) expect(!nn::has_memory(tensor), "nothing stays whole");
    communicator.barrier();  // none is left in another call
  });
  REQUIRE(messages.size() == 3);
  for (const std::string& message : messages) CHECK(message.find("No space left") != std::string::npos);
}

TEST_CASE("A disk that is full for the shard of a rank ends the save on all", "[checkpoint]") {
  TempDir dir;
  const test::FileSizeLimit limit(2000);
  require_error(ErrorKind::kCheckpoint, {"sharded_weights-"}, [&] { save_shards(dir / "model", 2, at::kFloat); });
  CHECK_FALSE(fs::exists(dir / "model/sharded_weights.json"));
}

TEST_CASE("Shards are read by any number of ranks, each its slices", "[checkpoint]") {
  const auto [writers, readers] = GENERATE(table<int, int>({{4, 2}, {2, 1}, {1, 3}, {3, 4}}));
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  TempDir dir;
  save_shards(dir / "model", writers, dtype);
  const auto spec = spec::read_model_spec(kSharedModel);
  comm::run_thread_ranks(readers, [&](Communicator& communicator) {
    NamedTensors parameters = base_parameters(dtype);
    for (auto& [name, tensor] : parameters) nn::release_memory(tensor);
    Shared shared(parameters, communicator);
    load_slices(spec, StoredWeights::open(dir / "model"), own_slices(parameters, &shared.shards),
                {.num_threads = 2, .piece_bytes = 36});
    const zero::WholeParameters whole(&shared.shards);
    for (size_t i = 0; i < parameters.size(); ++i)
      expect(at::equal(parameters[i].second, base_parameters(dtype)[i].second), "what was saved");
  });
}

TEST_CASE("consolidate makes of shards the files that a save of whole weights leaves", "[checkpoint]") {
  const int num_ranks = GENERATE(1, 2, 5);
  const auto dtype = GENERATE(at::kFloat, at::kHalf);
  const int64_t limit = GENERATE(int64_t{1} << 40, int64_t{900});
  TempDir dir;
  save_shards(dir / "shards", num_ranks, dtype);
  SaveModelOptions options = options_of(dtype);
  options.max_shard_bytes = limit;
  fs::create_directories(dir / "whole");
  save_model(dir / "whole", base_parameters(dtype), options);
  consolidate({.checkpoint = dir / "shards", .output = dir / "model", .max_shard_bytes = limit}, kSilent);
  CHECK(contents_of(dir / "model") == contents_of(dir / "whole"));
  require_error(ErrorKind::kUsage, {"exists already"},
                [&] { consolidate({.checkpoint = dir / "shards", .output = dir / "model"}, kSilent); });
}

TEST_CASE("What consolidate cannot make a model of is one clear error, and leaves nothing", "[checkpoint]") {
  TempDir dir;
  const fs::path shards = dir / "checkpoint-3", first = shards / "sharded_weights-0-of-2.safetensors";
  save_shards(shards, 2, at::kFloat);
  const std::string saved = read_file(first);
  const auto refused = [&](const fs::path& checkpoint, std::initializer_list<std::string> parts) {
    require_error(ErrorKind::kCheckpoint, parts,
                  [&] { consolidate({.checkpoint = checkpoint, .output = dir / "model"}, kSilent); });
    CHECK_FALSE(fs::exists(dir / "model"));
  };
  refused(dir / "nowhere", {"nowhere", "is no folder"});
  refused(dir.path(),
          {"holds no sharded_weights.json", "Its newest checkpoint with sharded weights is", "checkpoint-3"});
  refused(kSharedModel, {"holds model.safetensors: its weights are whole"});
  dir.write("adapter/adapter_model.safetensors", "");
  refused(dir / "adapter", {"holds an adapter", "dsft merge-lora"});
  require_error(ErrorKind::kCheckpoint, {"holds neither", "dsft consolidate"},
                [&] { io::SafetensorsSet::open(shards); });

  fs::resize_file(first, saved.size() - 4);
  refused(shards, {"sharded_weights-0-of-2.safetensors has", "in place of", "it was cut"});
  std::string damaged = saved;
  damaged.back() ^= 1;
  std::ofstream(first) << damaged;
  refused(shards, {"sharded_weights-0-of-2.safetensors does not have the checksum"});
  fs::remove(first);
  refused(shards, {"sharded_weights-0-of-2.safetensors is missing"});

  // of another save: more ranks, and another type
  save_shards(dir / "of_three", 3, at::kFloat);
  fs::copy_file(dir / "of_three/sharded_weights-0-of-3.safetensors", first);
  std::string index = read_file(shards / "sharded_weights.json");
  const std::string size = std::to_string(saved.size());
  index.replace(index.find(size), size.size(), std::to_string(fs::file_size(first)));
  std::ofstream(shards / "sharded_weights.json") << index;
  refused(shards, {"elements", "not of one save"});
  std::ofstream(shards / "sharded_weights.json") << R"({"format": 1, "dtype": "F32", "tensors": [
      {"name": "model.norm.weight", "shape": [16]}, {"name": "model.norm.weight", "shape": [16]}], "shards": [
      {"file": "sharded_weights-0-of-1.safetensors", "size": 1, "xxh64": "0"}]})";
  refused(shards, {"sharded_weights.json: lists model.norm.weight twice"});
  std::ofstream(shards / "sharded_weights.json") << R"({"format": 2})";
  refused(shards, {"sharded_weights.json", "format 2"});
  std::ofstream(shards / "sharded_weights.json") << R"({"format": 1, "dtype": "F32"})";
  refused(shards, {"sharded_weights.json", "is not what dsft writes"});
}

TEST_CASE("Whole and sharded weights take each other's place at the top of output_dir", "[checkpoint]") {
  TempDir dir;
  fs::create_directories(dir / "out");
  const auto publish_whole = [&] {
    fs::create_directories(dir / "staged");
    save_model(dir / "staged", base_parameters(at::kFloat), options_of(at::kFloat));
    publish_files(dir / "staged", dir / "out");
    fs::remove_all(dir / "staged");
  };
  const auto publish_shards = [&](int num_ranks) {
    save_shards(dir / "staged", num_ranks, at::kFloat);
    publish_files(dir / "staged", dir / "out");
    fs::remove_all(dir / "staged");
  };
  publish_whole();
  publish_shards(3);
  CHECK_FALSE(fs::exists(dir / "out/model.safetensors"));
  publish_shards(2);
  CHECK_FALSE(fs::exists(dir / "out/sharded_weights-0-of-3.safetensors"));
  verify_shards(read_sharded_index(dir / "out"));
  publish_whole();
  CHECK_FALSE(is_sharded_model(dir / "out"));
  CHECK_FALSE(fs::exists(dir / "out/sharded_weights-0-of-2.safetensors"));
}
