#include "estimate/memory.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

#include "estimate/activations.h"
#include "estimate/parameter_blocks.h"

namespace dsft::estimate {
namespace {

constexpr int64_t kMoments = 2 * kFloatBytes;
constexpr int64_t kMatrixScratch = int64_t{32} << 20;  // cuBLAS's workspace on the newest GPUs
constexpr int64_t kReducePiece = int64_t{1} << 23;     // elements of an all-reduce (zero/sharded_optimizer.cpp)
constexpr int64_t kContributions = int64_t{32} << 20;  // of other CPU ranks, at a time (comm/mpi_communicator.cpp)

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
  // What is trained once more, beside LoRA and of LoRA, as a reference policy: slices where the parameters are.
  int64_t reference_weights() const {
    if (!workload_.keeps_reference) return 0;
    return (slices_parameters() ? all_.trained_slices : all_.trained) * width_;
  }
  int64_t reference_lora() const { return workload_.keeps_reference ? all_.lora * kFloatBytes : 0; }
  // Flat buffers of both types, each as long as all that is trained (zero/flat_parameters.h), beside what is used.
  bool has_two_types() const { return width_ == 2 && all_.lora > 0 && all_.trained > 0; }
  int64_t unused_of_two_types() const {
    if (!has_two_types()) return 0;
    return all_.trained * kFloatBytes + (slices_parameters() ? 0 : all_.lora * width_);
  }
  // Where that is more than a step takes: before the first one, while the optimizer takes over what is trained, its
  // second copy, gradients and moments being made after it has gone. At stage 3 ranks load and save weights, and
  // measure the loss of evaluations, a block at a time, and gather all of them to generate.
  int64_t outside_of_steps(const Columns& step) const {
    if (slices_parameters())
      return step.weights + step.gradients + step.optimizer + waiting_samplers() +
             (workload_.generates ? all_.model * width_ : 0);
    return step.weights - reference_weights() - reference_lora() + masters() + all_.trained * width_ +
           all_.lora * kFloatBytes;
  }
  // of what is trained beside LoRA, the elements that this rank updates, and those of them on the host
  int64_t own_trained() const { return slices_state() ? all_.trained_slices : all_.trained; }
  int64_t offloaded() const { return placement_.offloads_optimizer ? own_trained() : 0; }
  int64_t held() const { return own_trained() - offloaded(); }

  int64_t own_gradients() const { return (held() + all_.lora) * kFloatBytes; }
  // gradients that stay beside a rank's own ones until the update
  int64_t whole_gradients() const { return placement_.stage == 1 && has_slices() ? all_.trained * kFloatBytes : 0; }
  int64_t masters() const { return width_ == 2 && held() > 0 ? (held() + all_.lora) * kFloatBytes : 0; }
  int64_t optimizer() const { return masters() + (held() + all_.lora) * kMoments; }

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

  // What the engines of sampling and of evaluations have in an update (generate/engine.h): adapters as their steps read
  // them, and on a GPU what the largest recorded step works with. Keys and values are given back, and at stage 3 an
  // evaluation's engine is too, for the weights lie elsewhere each time.
  int64_t waiting_samplers() const {
    if (!workload_.sampled) return 0;
    const int64_t adapters = narrow_adapter_bytes(workload_);
    const auto waiting = [&](int64_t num_sequences) {
      if (num_sequences == 0) return int64_t{0};
      return adapters + (workload_.is_on_gpu ? decoding_step_bytes(workload_, num_sequences) : 0);
    };
    return waiting(workload_.sampled->num_sequences) +
           (placement_.stage == 3 ? 0 : waiting(workload_.sampled->num_evaluated));
  }

  // By how much the peak of a step with buffers exceeds that of its pass alone.
  int64_t buffers_beside(const ActivationBytes& pass) const {
    const size_t head = blocks_.size() - 1;
    const auto num_layers = static_cast<int64_t>(head) - 1;
    // the loss of a head that is not trained has its most in the forward pass
    int64_t most = pass.kept + pass.loss + in_reduction(head) + gathered(head, /*with_next=*/trains_head());
    for (size_t block = 1; block < head; ++block)
      most = std::max(most, pass.kept * static_cast<int64_t>(block) / num_layers + pass.working + in_reduction(block) +
                                gathered(block, /*with_next=*/true));
    most = std::max({most, gathered(1, /*with_next=*/true), in_reduction(0) + gathered(0, false), last_reductions()});
    return most - pass.peak();
  }

 private:
  // of blocks; of those behind the head 0
  int64_t gradient(size_t block) const { return block < blocks_.size() ? blocks_[block].trained * kFloatBytes : 0; }
  int64_t slice_of_gradient(size_t block) const {
    return block < blocks_.size() ? slice_of(blocks_[block].trained, placement_.num_gpus) * kFloatBytes : 0;
  }

  // rather than into sums that stay: on their way to the host, or to those of the micro-batches before
  bool reduces_into_slices() const {
    return placement_.stage >= 1 &&
           (placement_.offloads_optimizer || (has_transient_gradients() && workload_.accumulates));
  }
  // a slice's sums, rounded, on their way to the host
  int64_t leaving(size_t block) const {
    const int64_t width = width_of_leaving_gradients();
    return placement_.offloads_optimizer && width != kFloatBytes ? slice_of_gradient(block) / kFloatBytes * width : 0;
  }

  bool trains_head() const {
    return (workload_.model.tie_word_embeddings ? blocks_.front() : blocks_.back()).trained > 0;
  }

  // A block's whole gradients while its backward pass runs, and those of the one that is being reduced: while this one
  // is computed again, where it is, else beside its gradients. A tied embedding's gradient is there from the head's
  // pass to its own.
  int64_t in_reduction(size_t block) const {
    int64_t reduced = reduces_into_slices() ? slice_of_gradient(block + 1) + leaving(block + 1) : 0;
    if (!has_transient_gradients()) return contributions(block + 1) + reduced;
    reduced += gradient(block + 1);
    const bool is_recomputed = workload_.recompute == train::GradientCheckpointing::kTrue && block > 0;
    const int64_t own = is_recomputed ? std::max(reduced, gradient(block)) : reduced + gradient(block);
    const bool has_tied = workload_.model.tie_word_embeddings && block > 0;
    return contributions(block + 1) + own + (has_tied ? gradient(0) : 0);
  }

  // When the pass is over.
  int64_t last_reductions() const {
    int64_t bytes = contributions(0);
    if (reduces_into_slices()) bytes += slice_of_gradient(0) + leaving(0);
    return has_transient_gradients() ? bytes + gradient(0) : bytes;
  }

  // A block that computes, and the one whose backward pass comes next; a tied head multiplies by the embedding.
  int64_t gathered(size_t block, bool with_next) const {
    if (!slices_parameters()) return 0;
    int64_t elements = blocks_[block].model + (with_next && placement_.gathers_ahead ? blocks_[block - 1].model : 0);
    if (block + 1 == blocks_.size() && workload_.model.tie_word_embeddings) elements += blocks_[0].model;
    return elements * width_;
  }

  // CPU ranks: what others send of the gradients that are summed at a time, and a sum; of blocks from `first` on.
  int64_t contributions(size_t first) const {
    if (workload_.is_on_gpu || !has_ranks()) return 0;
    const int64_t num_ranks = placement_.num_gpus;
    int64_t all = 0, largest = 0;
    for (size_t block = first; block < blocks_.size(); ++block) {
      const int64_t trained = blocks_[block].trained, lora = blocks_[block].lora;
      all += slice_of(trained, num_ranks) + lora / num_ranks;
      largest = std::max({largest, std::min(lora, kReducePiece) / num_ranks,
                          slices_state() ? slice_of(trained, num_ranks) : std::min(trained, kReducePiece) / num_ranks});
    }
    const int64_t of_others = (num_ranks - 1) * kFloatBytes;
    return std::min(all * of_others, std::max(kContributions, largest * of_others)) + largest * kFloatBytes;
  }

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
  rank.weights = state.model_weights() + state.lora() * kFloatBytes + state.unused_of_two_types();
  if (placement.offloads_parameters && state.slices_parameters()) rank.weights -= state.model_weights();
  (placement.offloads_parameters && state.slices_parameters() ? away : rank).weights += state.reference_weights();
  rank.weights += state.reference_lora();
  rank.optimizer = state.optimizer();
  rank.gradients = state.own_gradients() + state.whole_gradients();
  away.weights += state.offloaded_weights();
  away.optimizer = state.offloaded_optimizer();
  away.gradients = state.offloaded_gradients();
  const ActivationBytes activations = estimate_activations(workload);
  rank.loss = activations.loss;
  rank.activations = activations.peak() - activations.loss;
  rank.buffers = state.buffers_beside(activations);
  rank.buffers += state.waiting_samplers();
  if (workload.is_on_gpu) rank.buffers += kMatrixScratch;
  estimate.outside = std::max<int64_t>(0, state.outside_of_steps(rank) - rank.total());
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
