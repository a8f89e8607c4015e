#pragma once

#include "model/causal_lm.h"

namespace dsft::model {

/// The plain decoder of the llama and qwen families: embedding, layers, final norm, head; what differs between them
/// stands in the spec.
class DecoderLm final : public CausalLm {
 public:
  DecoderLm(const spec::ModelSpec& spec, at::TensorOptions options, ParameterMemory memory);

  int64_t num_blocks() const override { return spec().num_hidden_layers + 2; }
  std::vector<std::string> block_modules(int64_t block) const override;
  bool has_tied_head() const override { return lm_head_->is_tied(); }
  bool has_head_dropout() const override;
  bool can_be_recorded() const override;
  void prepare(const Batch& batch) const override;
  at::Tensor hidden_states(const Batch& batch, const nn::BlockRunner& runner, const TrainingMode* training,
                           nn::KvCache* cache) override;
  std::vector<at::Tensor> run_head(
      const at::Tensor& rows, const nn::BlockRunner& runner,
      const std::function<std::vector<at::Tensor>(const at::Tensor&, const nn::Linear&)>& head) override;

 private:
  /// "model" of the Hugging Face classes: embed_tokens, layers, norm.
  struct Body;
  nn::ForwardContextPtr make_context(const Batch& batch, const TrainingMode* training, nn::KvCache* cache,
                                     bool recomputes_mlp) const;

  std::shared_ptr<Body> body_;
  std::shared_ptr<nn::Linear> lm_head_;
  nn::RotaryTable rotary_;
};

}  // namespace dsft::model
