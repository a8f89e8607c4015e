#include <nlohmann/json.hpp>

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

std::map<std::string, std::string> read_weight_map(const fs::path& index) {
  const JsonLimits limits{.max_size_bytes = 200 << 20};
  const nlohmann::json document = read_json_file(index, ErrorKind::kCheckpoint, limits);
  if (!document.is_object() || !document.contains("weight_map") || !document["weight_map"].is_object()) {
    fail(ErrorKind::kCheckpoint, index.string(), " has no object \"weight_map\": it is no index of safetensors files.");
  }
  std::map<std::string, std::string> map;
  for (const auto& [tensor, file] : document["weight_map"].items()) {
    if (!file.is_string())
      fail(ErrorKind::kCheckpoint, index.string(), ": weight_map[\"", tensor, "\"] is no file name.");
    map.emplace(tensor, file.get<std::string>());
  }
  if (map.empty()) fail(ErrorKind::kCheckpoint, index.string(), ": weight_map is empty.");
  return map;
}

[[noreturn]] void fail_without_weights(const fs::path& directory, const std::string& stem) {
  std::string hint = "Is it the folder of a Hugging Face checkpoint?";
  for (const char* old : {"pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin"}) {
    if (fs::exists(directory / old))
      hint = concat("It holds ", old, ", a pickle, which dsft does not load: convert it to safetensors.");
  }
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
  for (const auto& [tensor, name] : read_weight_map(index)) {
    const auto [at, is_new] = opened.emplace(name, set.files_.size());
    if (is_new) set.files_.push_back(SafetensorsFile::open(resolve_indexed_file(directory, name, index)));
    const TensorInfo* info = set.files_[at->second].find(tensor);
    if (info == nullptr)
      fail(ErrorKind::kCheckpoint, index.string(), " says that ", name, " holds ", tensor, ", but it does not.");
    set.index_.emplace(tensor, std::pair(at->second, info));
  }
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
