#include "checkpoint/load_weights.h"

#include <ATen/Parallel.h>
#include <omp.h>
#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <set>
#include <thread>

#include "base/error.h"
#include "device/device.h"
#include "device/staged_upload.h"
#include "spec/weight_check.h"

namespace dsft::checkpoint {

namespace {

void check_names(const spec::ModelSpec& spec, const StoredWeights& weights, const std::vector<TensorSlice>& slices) {
  std::vector<std::string> faults;
  std::set<std::string> wanted;
  for (const TensorSlice& slice : slices) {
    wanted.insert(slice.name);
    const StoredTensor* stored = weights.find(slice.name);
    if (stored == nullptr) {
      faults.push_back("missing: " + slice.name);
    } else if (stored->shape != slice.shape) {
      faults.push_back(concat("wrong shape: ", slice.name, " is ", at::IntArrayRef(stored->shape),
                              ", but the model has ", at::IntArrayRef(slice.shape)));
    }
  }
  for (const auto& [name, stored] : weights.tensors()) {
    if (!wanted.contains(name) && !spec::is_ignored_tensor(spec, name)) faults.push_back("unexpected: " + name);
  }
  if (faults.empty()) return;
  std::string text =
      concat("The weights in ", weights.directory().string(), " do not fit the model, ", faults.size(), " faults:");
  for (const std::string& fault : faults) text += "\n  - " + fault;
  fail(ErrorKind::kCheckpoint, text);
}

/// A run of elements of a tensor in a file, and where they go.
struct Piece {
  const io::SafetensorsFile* file;
  const io::TensorInfo* info;
  at::Tensor target;    // flat
  uint64_t offset = 0;  // in bytes, in the tensor
  uint64_t size = 0;

  void load(device::StagedUpload& upload) const {
    upload.put(target, to_scalar_type(info->dtype), [this](void* memory) { file->read(*info, offset, size, memory); });
  }
};

/// What a run of a file and a slice have in common, in pieces.
void cut(const StoredRun& run, const TensorSlice& slice, int64_t piece_bytes, std::vector<Piece>& pieces) {
  const int64_t first = std::max(run.first, slice.first);
  const int64_t end = std::min(run.end(), slice.first + slice.values.numel());
  const int64_t element_size = io::dtype_size(run.info->dtype);
  const int64_t step = std::max<int64_t>(piece_bytes / element_size, 1);
  for (int64_t begin = first; begin < end; begin += step) {
    const int64_t size = std::min(step, end - begin);
    pieces.push_back({run.file, run.info, slice.values.narrow(0, begin - slice.first, size),
                      static_cast<uint64_t>((begin - run.first) * element_size),
                      static_cast<uint64_t>(size * element_size)});
  }
}

/// All slices in pieces, in the order in which they lie in the files.
std::vector<Piece> cut_into_pieces(const StoredWeights& weights, const std::vector<TensorSlice>& slices,
                                   int64_t piece_bytes) {
  std::vector<Piece> pieces;
  for (const TensorSlice& slice : slices)
    for (const StoredRun& run : weights.find(slice.name)->runs) cut(run, slice, piece_bytes, pieces);
  const auto place = [](const Piece& piece) { return std::pair(piece.file, piece.info->begin + piece.offset); };
  std::sort(pieces.begin(), pieces.end(), [&](const Piece& a, const Piece& b) { return place(a) < place(b); });
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

void load_slices(const spec::ModelSpec& spec, const StoredWeights& weights, const std::vector<TensorSlice>& slices,
                 const ReadOptions& options) {
  check_names(spec, weights, slices);
  const std::vector<Piece> pieces = cut_into_pieces(weights, slices, options.piece_bytes);
  if (pieces.empty()) return;
  const int64_t most_threads = std::clamp<int64_t>(options.num_threads, 1, 64);
  ParallelLoad(pieces, pieces.front().target.device(), options.piece_bytes)
      .run(static_cast<int>(std::min(most_threads, static_cast<int64_t>(pieces.size()))));
}

void load_weights(const spec::ModelSpec& spec, const io::SafetensorsSet& weights, const NamedTensors& parameters,
                  const ReadOptions& options) {
  const std::vector<TensorSlice> slices = own_slices(parameters, /*shards=*/nullptr);
  const StoredWeights stored = StoredWeights::of(weights);
  check_names(spec, stored, slices);
  require_tied_head(spec, weights);
  load_slices(spec, stored, slices, options);
}

}  // namespace dsft::checkpoint
