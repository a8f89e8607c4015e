#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/safetensors.h"

namespace dsft::checkpoint {

/// Elements of a tensor that lie one behind another in a file.
struct StoredRun {
  const io::SafetensorsFile* file = nullptr;
  const io::TensorInfo* info = nullptr;  ///< of the file, all of whose elements these are
  int64_t first = 0;                     ///< of the tensor
  int64_t end() const { return first + info->num_elements(); }
};

/// Where a tensor of a checkpoint is.
struct StoredTensor {
  std::vector<int64_t> shape;
  io::DType dtype = io::DType::kF32;
  std::vector<StoredRun> runs;  ///< by their first element; they make the tensor up
};

/// The weights of a folder, whole tensors (Hugging Face's files) or the shards that ranks wrote (sharded_model.h).
class StoredWeights {
 public:
  /// Of whichever the folder holds. Reads headers alone. Throws kCheckpoint.
  static StoredWeights open(const std::filesystem::path& directory);
  /// Of files that are open already, and stay so while this is used.
  static StoredWeights of(const io::SafetensorsSet& weights);
  /// Of these files of a folder, which are kept: what is in them has to be told by add().
  StoredWeights(std::filesystem::path directory, std::vector<io::SafetensorsFile> files)
      : directory_(std::move(directory)), files_(std::move(files)) {}
  StoredWeights(StoredWeights&&) = default;
  StoredWeights& operator=(StoredWeights&&) = default;

  void add(const std::string& name, StoredTensor tensor) { tensors_[name] = std::move(tensor); }

  const std::filesystem::path& directory() const { return directory_; }
  const std::vector<io::SafetensorsFile>& files() const { return files_; }
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return tensors_; }
  const StoredTensor* find(std::string_view name) const;  ///< null where there is none

 private:
  StoredWeights() = default;
  std::filesystem::path directory_;
  std::vector<io::SafetensorsFile> files_;
  std::optional<io::SafetensorsSet> set_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

}  // namespace dsft::checkpoint
