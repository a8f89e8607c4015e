#include "checkpoint/load_weights.h"

#include <ATen/Parallel.h>
#include <omp.h>
#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <map>
#include <mutex>
#include <set>
#include <string_view>
#include <thread>

#include "base/error.h"
#include "device/device.h"
#include "device/staged_upload.h"
#include "spec/weight_check.h"

namespace dsft::checkpoint {

namespace {

void check_names(const spec::ModelSpec& spec, const io::SafetensorsSet& weights, const NamedTensors& parameters) {
  std::vector<std::string> faults;
  std::set<std::string> wanted;
  for (const auto& [name, parameter] : parameters) {
    wanted.insert(name);
    const io::TensorInfo* info = weights.find(name);
    if (info == nullptr) {
      faults.push_back("missing: " + name);
    } else if (info->shape != parameter.sizes().vec()) {
      faults.push_back(concat("wrong shape: ", name, " is ", at::IntArrayRef(info->shape), ", but the model has ",
                              parameter.sizes()));
    }
  }
  for (const std::string& name : weights.names()) {
    if (!wanted.contains(name) && !spec::is_ignored_tensor(spec, name)) faults.push_back("unexpected: " + name);
  }
  if (faults.empty()) return;
  std::string text = concat("The weights in ", weights.files().front().path().parent_path().string(),
                            " do not fit the model, ", faults.size(), " faults:");
  for (const std::string& fault : faults) text += "\n  - " + fault;
  fail(ErrorKind::kCheckpoint, text);
}

/// A run of elements of a tensor in a file, and where they go.
struct Piece {
  const io::SafetensorsFile& file;
  const io::TensorInfo& info;
  at::Tensor target;    // flat
  uint64_t offset = 0;  // in bytes, in the tensor
  uint64_t size = 0;

  void load(device::StagedUpload& upload) const {
    upload.put(target, to_scalar_type(info.dtype), [this](void* memory) { file.read(info, offset, size, memory); });
  }
};

/// All parameters in pieces, in the order in which they lie in the files.
std::vector<Piece> cut_into_pieces(const io::SafetensorsSet& weights, const NamedTensors& parameters,
                                   int64_t piece_bytes) {
  std::map<std::string_view, at::Tensor> targets;
  for (const auto& [name, parameter] : parameters) targets.emplace(name, parameter.detach().view({-1}));
  std::vector<Piece> pieces;
  for (const io::SafetensorsFile& file : weights.files()) {
    for (const io::TensorInfo& info : file.tensors()) {
      const auto target = targets.find(info.name);
      if (target == targets.end()) continue;
      const int64_t element_size = io::dtype_size(info.dtype), count = target->second.numel();
      const int64_t step = std::max<int64_t>(piece_bytes / element_size, 1);
      for (int64_t begin = 0; begin < count; begin += step) {
        const int64_t size = std::min(step, count - begin);
        pieces.push_back({file, info, target->second.narrow(0, begin, size),
                          static_cast<uint64_t>(begin * element_size), static_cast<uint64_t>(size * element_size)});
      }
    }
  }
  return pieces;
}

/// Loads the pieces on several threads; the first error is thrown once all have ended.
class ParallelLoad {
 public:
  ParallelLoad(const std::vector<Piece>& pieces, at::Device device, int64_t piece_bytes)
      : pieces_(pieces), device_(device), piece_bytes_(piece_bytes) {}

  void run(int num_threads) {
    device::synchronize(device_);  // what was begun with the parameters' memory
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < num_threads; ++i) threads.emplace_back([this] { work(); });
    }
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void work() {
    // Conversions must not start a team of threads inside each of these threads; the first call makes ATen's own
    // setting, which the second replaces.
    at::get_num_threads();
    omp_set_num_threads(1);
    try {
      device::StagedUpload upload(device_, piece_bytes_);
      for (size_t i = next_++; i < pieces_.size(); i = next_++) pieces_[i].load(upload);
      upload.wait();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      next_ = pieces_.size();
    }
  }

  const std::vector<Piece>& pieces_;
  at::Device device_;
  int64_t piece_bytes_;
  std::atomic<size_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace

void require_tied_head(const spec::ModelSpec& spec, const io::SafetensorsSet& weights) {
  const io::TensorInfo* head = weights.find("lm_head.weight");
  const io::TensorInfo* embedding = weights.find("model.embed_tokens.weight");
  if (!spec.tie_word_embeddings || head == nullptr || embedding == nullptr) return;
  if (head->shape == embedding->shape &&
      at::equal(read_tensor(weights, *head), read_tensor(weights, *embedding).to(to_scalar_type(head->dtype))))
    return;
  fail(ErrorKind::kCheckpoint, weights.file_of(*head).path().string(),
       ": config.json says tie_word_embeddings: true, but lm_head.weight differs from ",
       "model.embed_tokens.weight. Set tie_word_embeddings to false in config.json to use both.");
}

void load_weights(const spec::ModelSpec& spec, const io::SafetensorsSet& weights, const NamedTensors& parameters,
                  const ReadOptions& options) {
  check_names(spec, weights, parameters);
  require_tied_head(spec, weights);
  const std::vector<Piece> pieces = cut_into_pieces(weights, parameters, options.piece_bytes);
  if (pieces.empty()) return;
  const int64_t most_threads = std::clamp<int64_t>(options.num_threads, 1, 64);
  ParallelLoad(pieces, pieces.front().target.device(), options.piece_bytes)
      .run(static_cast<int>(std::min(most_threads, static_cast<int64_t>(pieces.size()))));
}

}  // namespace dsft::checkpoint
