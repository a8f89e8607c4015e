#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace dsft::io {

namespace fs = std::filesystem;

namespace {

/// The folder that files of a checkpoint may lie in once links are followed: the checkpoint's, or the whole models--*
/// folder of a Hugging Face cache.
fs::path allowed_root(const fs::path& directory) {
  const fs::path real = fs::weakly_canonical(directory);
  for (fs::path at = real; at.has_relative_path(); at = at.parent_path()) {
    if (at.filename().string().starts_with("models--")) return at;
  }
  return real;
}

bool is_inside(const fs::path& path, const fs::path& root) {
  const fs::path relative = path.lexically_relative(root);
  return !relative.empty() && *relative.begin() != "..";
}

/// The path of a file that an index names. The index is untrusted: only plain names of files of the same folder are
/// taken.
fs::path resolve_indexed_file(const fs::path& directory, const std::string& name, const fs::path& index) {
  const bool is_plain = !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
                        name.find('\\') == std::string::npos && name.find('\0') == std::string::npos;
  if (!is_plain) {
    fail(ErrorKind::kCheckpoint, index.string(), ": weight_map names the file \"", name.substr(0, 200),
         "\"; only plain file names of the same folder are allowed.");
  }
  const fs::path path = directory / name;
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error)
    fail(ErrorKind::kCheckpoint, index.string(), " names ", name, ", which cannot be opened: ", error.message(),
         ". Download the checkpoint again.");
  if (!is_inside(real, allowed_root(directory))) {
    fail(ErrorKind::kCheckpoint, path.string(), " is a link to ", real.string(),
         ", outside of the checkpoint's folder. Copy the file into the folder.");
  }
  return path;
}

/// What an index says: the file of each tensor, and the bytes of all.
struct WeightIndex {
  std::map<std::string, std::string> files;
  std::optional<uint64_t> total_size;
};

WeightIndex read_index(const fs::path& index) {
  const JsonLimits limits{.max_size_bytes = 200 << 20};
  const nlohmann::json document = read_json_file(index, ErrorKind::kCheckpoint, limits);
  if (!document.is_object() || !document.contains("weight_map") || !document["weight_map"].is_object()) {
    fail(ErrorKind::kCheckpoint, index.string(), " has no object \"weight_map\": it is no index of safetensors files.");
  }
  WeightIndex result;
  for (const auto& [tensor, file] : document["weight_map"].items()) {
    if (!file.is_string())
      fail(ErrorKind::kCheckpoint, index.string(), ": weight_map[\"", tensor, "\"] is no file name.");
    result.files.emplace(tensor, file.get<std::string>());
  }
  if (result.files.empty()) fail(ErrorKind::kCheckpoint, index.string(), ": weight_map is empty.");
  const auto metadata = document.find("metadata");
  if (metadata != document.end() && metadata->is_object() && metadata->contains("total_size") &&
      (*metadata)["total_size"].is_number_unsigned())
    result.total_size = (*metadata)["total_size"].get<uint64_t>();
  return result;
}

/// Old versions of transformers counted tied weights twice, so only fewer bytes than the files hold are a fault.
void check_total_size(const std::vector<SafetensorsFile>& files, const WeightIndex& said, const fs::path& index) {
  uint64_t held = 0;
  for (const SafetensorsFile& file : files) {
    for (const TensorInfo& tensor : file.tensors()) held += tensor.end - tensor.begin;
  }
  if (said.total_size && *said.total_size < held)
    fail(ErrorKind::kCheckpoint, index.string(), ": metadata says that the tensors have ", *said.total_size,
         " bytes, but its files hold ", held, ": it is the index of other files.");
}

[[noreturn]] void fail_without_weights(const fs::path& directory, const std::string& stem) {
  std::string hint = "Is it the folder of a Hugging Face checkpoint?";
  for (const char* old : {"pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin"}) {
    if (fs::exists(directory / old))
      hint = concat("It holds ", old, ", a pickle, which dsft does not load: convert it to safetensors.");
  }
  if (fs::exists(directory / "sharded_weights.json"))
    hint = "It holds the shards of a run at ZeRO stage 3: `dsft consolidate` makes a checkpoint of them.";
  fail(ErrorKind::kCheckpoint, directory.string(), " holds neither ", stem, ".safetensors nor ", stem,
       ".safetensors.index.json. ", hint);
}

}  // namespace

SafetensorsSet SafetensorsSet::open(const fs::path& directory, const std::string& stem) {
  SafetensorsSet set;
  const fs::path single = directory / (stem + ".safetensors");
  const fs::path index = directory / (stem + ".safetensors.index.json");
  if (fs::exists(single)) {
    set.files_.push_back(SafetensorsFile::open(single));
    for (const TensorInfo& tensor : set.files_[0].tensors())
      set.index_.emplace(tensor.name, std::pair(size_t{0}, &tensor));
    return set;
  }
  if (!fs::exists(index)) fail_without_weights(directory, stem);
  std::map<std::string, size_t> opened;
  const WeightIndex said = read_index(index);
  for (const auto& [tensor, name] : said.files) {
    const auto [at, is_new] = opened.emplace(name, set.files_.size());
    if (is_new) set.files_.push_back(SafetensorsFile::open(resolve_indexed_file(directory, name, index)));
    if (set.files_[at->second].find(tensor) == nullptr)
      fail(ErrorKind::kCheckpoint, index.string(), " says that ", name, " holds ", tensor, ", but it does not.");
  }
  // what a file holds beside that counts too: whoever knows the model says that it is unexpected
  for (size_t file = 0; file < set.files_.size(); ++file) {
    for (const TensorInfo& tensor : set.files_[file].tensors()) {
      const auto [first, is_new] = set.index_.emplace(tensor.name, std::pair(file, &tensor));
      if (!is_new)
        fail(ErrorKind::kCheckpoint, directory.string(), ": the tensor ", tensor.name.substr(0, 200),
             " is in two files, ", set.files_[first->second.first].path().filename().string(), " and ",
             set.files_[file].path().filename().string(), ". Which one holds cannot be known.");
    }
  }
  check_total_size(set.files_, said, index);
  return set;
}

std::vector<std::string> SafetensorsSet::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : index_) names.push_back(name);
  return names;
}

const TensorInfo* SafetensorsSet::find(std::string_view name) const {
  const auto at = index_.find(name);
  return at == index_.end() ? nullptr : at->second.second;
}

const SafetensorsFile& SafetensorsSet::file_of(const TensorInfo& tensor) const {
  const auto at = index_.find(tensor.name);
  DSFT_CHECK(at != index_.end(), tensor.name, " is not of this set");
  return files_[at->second.first];
}

}  // namespace dsft::io
