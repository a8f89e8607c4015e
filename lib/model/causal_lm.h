#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "batch/batch.h"
#include "nn/block_runner.h"
#include "nn/decoder_layer.h"
#include "nn/rotary_table.h"
#include "spec/model_spec.h"

namespace dsft::model {

/// Whether dropout is on in a forward pass, and the run's seed for it.
struct TrainingMode {
  uint64_t seed = 0;
};

/// The keys of a batch's dropout, for each of its tokens; `training` null: none, dropout is off.
kernels::DropoutKeys dropout_keys(const Batch& batch, const TrainingMode* training);

/// A decoder language model whose modules carry Hugging Face's names, so that named_parameters() are the checkpoint's
/// tensors. Its blocks, in order of the runner's indices: 0 the embedding, 1..L the layers, L + 1 the final norm and
/// the head.
class CausalLm : public torch::nn::Module {
 public:
  explicit CausalLm(spec::ModelSpec spec) : spec_(std::move(spec)) {}

  const spec::ModelSpec& spec() const { return spec_; }
  virtual int64_t num_blocks() const = 0;

  /// Paths of the modules that a block runs ("model.layers.0"); each module belongs to one block.
  virtual std::vector<std::string> block_modules(int64_t block) const = 0;
  /// The block that runs the module of a tensor of this name.
  int64_t block_of(const std::string& tensor) const;
  /// Whether the head shares the embedding's weight. Training one of the two alone unties them (lora::attach).
  virtual bool has_tied_head() const = 0;

  /// Whether the head has an adapter that drops its inputs in training.
  virtual bool has_head_dropout() const = 0;

  /// Whether a training pass enqueues the same for all batches of one shape (device::Graph): it reads nothing of them
  /// but tensors on the device.
  virtual bool can_be_recorded() const = 0;

  /// Makes what takes time to make before the first training pass over batches like this one. Does not read weights, so
  /// that a thread can do it while they are loaded.
  virtual void prepare(const Batch& batch) const = 0;

  /// The parameters that a block owns, for sharding; a tied embedding belongs to block 0.
  std::vector<std::pair<std::string, at::Tensor>> block_parameters(int64_t block) const;

  /// Hidden states [T, H] before the final norm. `training`: null turns dropout off. `cache`: null in training.
  virtual at::Tensor hidden_states(const Batch& batch, const nn::BlockRunner& runner, const TrainingMode* training,
                                   nn::KvCache* cache = nullptr) = 0;

  /// Runs a function of the final norm's output and the head as the last block. `rows`: the hidden states to use
  /// (already selected). `head` gets the normalised hidden states [R, H] and gives the block's outputs.
  virtual std::vector<at::Tensor> run_head(
      const at::Tensor& rows, const nn::BlockRunner& runner,
      const std::function<std::vector<at::Tensor>(const at::Tensor& normalised, const nn::Linear& head)>& head) = 0;

  /// Logits [R, V] of rows of hidden states.
  at::Tensor logits(const at::Tensor& rows, const nn::BlockRunner& runner, const nn::ForwardContext& context = {});

  at::Device device() const { return parameters().front().device(); }
  at::ScalarType dtype() const { return parameters().front().scalar_type(); }

 private:
  spec::ModelSpec spec_;
};

/// Whether the parameters of a model that is built have memory, or get it later: those of one block at most have it
/// while it is built, and none after (nn::has_memory).
enum class ParameterMemory { kNow, kLater };

/// The model of a spec with parameters of `dtype` on `device`, allocated but not filled, none trainable.
std::shared_ptr<CausalLm> build_causal_lm(const spec::ModelSpec& spec, at::ScalarType dtype, at::Device device,
                                          ParameterMemory memory = ParameterMemory::kNow);

/// named_parameters() as a list, in model order; a tied head stands once, as the embedding.
std::vector<std::pair<std::string, at::Tensor>> named_parameters_of(const torch::nn::Module& model);

/// Whether a tensor's name lies inside one of these modules.
bool is_inside(const std::string& tensor, const std::vector<std::string>& modules);

}  // namespace dsft::model
