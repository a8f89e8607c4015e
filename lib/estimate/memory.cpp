#include "estimate/memory.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

#include "estimate/activations.h"
#include "estimate/parameter_blocks.h"

namespace dsft::estimate {
namespace {

constexpr int64_t kMoments = 2 * kFloatBytes;
constexpr int64_t kMatrixScratch = int64_t{32} << 20;       // cuBLAS's workspace on the newest GPUs
constexpr int64_t kReduceScratch = (int64_t{1} << 23) * 4;  // what CPU ranks reduce at a time

// Sums over a model's blocks.
struct Elements {
  int64_t model = 0, model_slices = 0, trained = 0, trained_slices = 0, lora = 0;
};

Elements count(const std::vector<BlockParameters>& blocks, int64_t num_ranks) {
  Elements sum;
  for (const BlockParameters& block : blocks) {
    sum.model += block.model;
    sum.model_slices += slice_of(block.model, num_ranks);
    sum.trained += block.trained;
    sum.trained_slices += slice_of(block.trained, num_ranks);
    sum.lora += block.lora;
  }
  return sum;
}

// The most elements that `num_neighbours` blocks in a row have together; a tied embedding (block 0) counts where the
// head is used too.
int64_t most_of_neighbours(const std::vector<BlockParameters>& blocks, int64_t BlockParameters::*kind,
                           size_t num_neighbours, bool always_has_first) {
  int64_t most = 0;
  for (size_t first = 0; first < blocks.size(); ++first) {
    const size_t end = std::min(blocks.size(), first + num_neighbours);
    int64_t sum = always_has_first && first > 0 ? blocks[0].*kind : 0;
    for (size_t block = first; block < end; ++block) sum += blocks[block].*kind;
    most = std::max(most, sum);
  }
  return most;
}

// What one rank holds, wherever it lies.
class RankState {
 public:
  RankState(const Workload& workload, const Placement& placement)
      : workload_(workload),
        placement_(placement),
        width_(bytes_of(workload.dtype)),
        blocks_(parameter_blocks(workload)),
        all_(count(blocks_, placement.num_gpus)) {}

  bool has_ranks() const { return placement_.num_gpus > 1; }
  bool slices_state() const { return placement_.stage >= 1 && has_ranks(); }
  bool slices_parameters() const { return placement_.stage >= 3 && (has_ranks() || placement_.offloads_parameters); }
  // by blocks, one rank having the only slice of each
  bool has_slices() const {
    return placement_.stage >= 1 && (has_ranks() || placement_.offloads_optimizer || slices_parameters());
  }
  // whole gradients are there for a part of a backward pass alone
  bool has_transient_gradients() const { return placement_.stage >= 2 && has_slices(); }

  int64_t lora() const { return all_.lora; }
  int64_t model_weights() const { return (slices_parameters() ? all_.model_slices : all_.model) * width_; }
  // Beside the weights that stay: before the first step, while the optimizer takes over what is trained, its second
  // copy; at stage 3 all of them, at the start, in evaluations and while they are saved.
  int64_t weights_outside_of_steps() const {
    return slices_parameters() ? all_.model * width_ : all_.trained * width_ + all_.lora * kFloatBytes;
  }
  // of what is trained beside LoRA, the elements that this rank updates, and those of them on the host
  int64_t own_trained() const { return slices_state() ? all_.trained_slices : all_.trained; }
  int64_t offloaded() const { return placement_.offloads_optimizer ? own_trained() : 0; }
  int64_t held() const { return own_trained() - offloaded(); }

  int64_t own_gradients() const { return (held() + all_.lora) * kFloatBytes; }
  // gradients that stay beside a rank's own ones until the update
  int64_t whole_gradients() const { return placement_.stage == 1 && has_slices() ? all_.trained * kFloatBytes : 0; }
  int64_t optimizer() const { return held() * (kMoments + (width_ == 2 ? kFloatBytes : 0)) + all_.lora * kMoments; }

  int64_t offloaded_optimizer() const { return offloaded() * (kMoments + kFloatBytes); }
  // as they arrive, and the sums of several micro-batches; at stage 1 the device adds up
  int64_t offloaded_gradients() const {
    const bool has_sums = workload_.accumulates && placement_.stage >= 2;
    return offloaded() * (width_of_leaving_gradients() + (has_sums ? kFloatBytes : 0));
  }
  // slices of weights, or of 16-bit ones the copies that leave for the device
  int64_t offloaded_weights() const {
    if (placement_.offloads_parameters && slices_parameters()) return model_weights();
    return width_ == 2 ? offloaded() * width_ : 0;
  }

  // A block's whole gradients, and those of two that are being reduced, into slices. A tied embedding's gradient is
  // there from the head's pass to its own.
  int64_t blocks_in_reduction() const {
    if (all_.trained == 0 || !(has_transient_gradients() || placement_.offloads_optimizer)) return 0;
    const bool is_tied = workload_.model.tie_word_embeddings;
    const int64_t whole =
        has_transient_gradients() ? most_of_neighbours(blocks_, &BlockParameters::trained, 3, is_tied) : 0;
    int64_t largest = 0;
    for (const BlockParameters& block : blocks_) largest = std::max(largest, block.trained);
    const int64_t slice = slice_of(largest, placement_.num_gpus), leaving = width_of_leaving_gradients();
    const bool are_rounded = placement_.offloads_optimizer && leaving != kFloatBytes;
    return (whole + 2 * slice) * kFloatBytes + (are_rounded ? slice * leaving : 0);
  }

  // A block that computes and the one behind it.
  int64_t gathered_blocks() const {
    if (!slices_parameters()) return 0;
    int64_t most = most_of_neighbours(blocks_, &BlockParameters::model, 2, false);
    if (workload_.model.tie_word_embeddings) {
      const size_t last = blocks_.size() - 1;  // the head multiplies by the embedding
      most = std::max(most, blocks_[0].model + blocks_[last - 1].model + blocks_[last].model);
    }
    return most * width_;
  }

 private:
  int64_t width_of_leaving_gradients() const {
    return workload_.dtype == spec::ComputeDtype::kBf16 ? width_ : kFloatBytes;
  }

  const Workload& workload_;
  const Placement& placement_;
  int64_t width_;
  std::vector<BlockParameters> blocks_;
  Elements all_;
};

Columns times(Columns columns, int64_t factor) {
  for (int64_t Columns::*column : {&Columns::weights, &Columns::gradients, &Columns::optimizer, &Columns::activations,
                                   &Columns::loss, &Columns::buffers})
    columns.*column *= factor;
  return columns;
}

}  // namespace

MemoryEstimate estimate_memory(const Workload& workload, const Placement& placement) {
  const RankState state(workload, placement);
  MemoryEstimate estimate{.placement = placement, .gpu = {}, .host = {}, .outside = 0};
  Columns rank, away;  // where the rank computes, and what it has elsewhere
  rank.weights = state.model_weights() + state.lora() * kFloatBytes;
  if (placement.offloads_parameters && state.slices_parameters()) rank.weights -= state.model_weights();
  rank.optimizer = state.optimizer();
  rank.gradients = state.own_gradients() + state.whole_gradients();
  away.weights = state.offloaded_weights();
  away.optimizer = state.offloaded_optimizer();
  away.gradients = state.offloaded_gradients();
  const ActivationBytes activations = estimate_activations(workload);
  rank.loss = activations.loss;
  rank.activations = activations.peak() - activations.loss;
  rank.buffers = state.blocks_in_reduction() + state.gathered_blocks();
  if (workload.is_on_gpu) rank.buffers += kMatrixScratch;
  if (!workload.is_on_gpu && state.has_ranks()) rank.buffers += kReduceScratch;
  estimate.outside = std::max<int64_t>(
      0, rank.weights + rank.gradients + rank.optimizer + state.weights_outside_of_steps() - rank.total());
  rank.buffers += estimate.outside;
  estimate.host = times(away, placement.num_gpus);
  if (workload.is_on_gpu) {
    estimate.gpu = rank;
    return estimate;
  }
  const Columns whole = times(rank, placement.num_gpus);
  estimate.host.weights += whole.weights;
  estimate.host.gradients += whole.gradients;
  estimate.host.optimizer += whole.optimizer;
  estimate.host.activations += whole.activations;
  estimate.host.loss += whole.loss;
  estimate.host.buffers += whole.buffers;
  return estimate;
}

std::string to_gib(int64_t bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << static_cast<double>(bytes) / static_cast<double>(int64_t{1} << 30)
      << " GiB";
  return out.str();
}

}  // namespace dsft::estimate
