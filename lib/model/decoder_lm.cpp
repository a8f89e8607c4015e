#include "model/decoder_lm.h"

#include <torch/nn/modules/container/modulelist.h>

#include "base/error.h"
#include "nn/embedding.h"
#include "nn/parameter_memory.h"

namespace dsft::model {

struct DecoderLm::Body final : torch::nn::Module {
  Body(const spec::ModelSpec& spec, at::TensorOptions options, ParameterMemory memory) {
    const auto leave = [&](const torch::nn::Module& module) {
      if (memory == ParameterMemory::kLater) nn::release_memory(module);
    };
    embed_tokens =
        register_module("embed_tokens", std::make_shared<nn::Embedding>(spec.vocab_size, spec.hidden_size, options));
    leave(*embed_tokens);
    auto list = std::make_shared<torch::nn::ModuleListImpl>();
    for (int64_t layer = 0; layer < spec.num_hidden_layers; ++layer) {
      layers.push_back(std::make_shared<nn::DecoderLayer>(spec, layer, options));
      leave(*layers.back());
      list->push_back(layers.back());
    }
    register_module("layers", list);
    norm = register_module("norm", std::make_shared<nn::RmsNorm>(spec.hidden_size, spec.rms_norm_eps, options));
    leave(*norm);
  }

  std::shared_ptr<nn::Embedding> embed_tokens;
  std::vector<std::shared_ptr<nn::DecoderLayer>> layers;
  std::shared_ptr<nn::RmsNorm> norm;
};

DecoderLm::DecoderLm(const spec::ModelSpec& spec, at::TensorOptions options, ParameterMemory memory)
    : CausalLm(spec), rotary_(spec.rope, spec.head_dim, spec.max_position_embeddings, options.device()) {
  body_ = register_module("model", std::make_shared<Body>(spec, options, memory));
  lm_head_ = register_module("lm_head", spec.tie_word_embeddings
                                            ? nn::Linear::tied_to(body_->embed_tokens->weight())
                                            : std::make_shared<nn::Linear>(spec.hidden_size, spec.vocab_size, options));
  if (memory == ParameterMemory::kLater) nn::release_memory(*lm_head_);
}

std::vector<std::string> DecoderLm::block_modules(int64_t block) const {
  DSFT_CHECK(block >= 0 && block < num_blocks(), "block ", block, " of ", num_blocks());
  if (block == 0) return {"model.embed_tokens"};
  if (block == num_blocks() - 1) return {"model.norm", "lm_head"};
  return {"model.layers." + std::to_string(block - 1)};
}

bool DecoderLm::has_head_dropout() const {
  const auto& adapter = lm_head_->adapter();
  return adapter && adapter->is_enabled && adapter->dropout > 0;
}

// dynamic frequencies are worked out from the documents' lengths on the host
bool DecoderLm::can_be_recorded() const {
  return spec().rope.type != spec::RopeSpec::Type::kDynamic &&
         kernels::attends_by_device(body_->embed_tokens->weight().options(), spec().head_dim);
}

void DecoderLm::prepare(const Batch& batch) const {
  for (const auto& layer : body_->layers) layer->prepare({batch.boundaries, batch.longest, batch.starts});
}

nn::ForwardContextPtr DecoderLm::make_context(const Batch& batch, const TrainingMode* training, nn::KvCache* cache,
                                              bool recomputes_mlp) const {
  auto context = std::make_shared<nn::ForwardContext>();
  std::tie(context->cos, context->sin) = rotary_.angles(batch.positions, batch.boundaries);
  if (!cache) context->documents = {batch.boundaries, batch.longest, batch.starts};
  context->cache = cache;
  const bool is_as_decoded = !cache && batch.policy && !batch.policy->prompt_lengths.empty();
  if (is_as_decoded)
    context->as_decoded = std::make_shared<kernels::PrefilledTokens>(
        kernels::place_as_decoded(batch.boundaries, batch.policy->prompt_lengths, batch.ids.device()));
  context->isolates_rows = cache ? cache->isolates_rows() : is_as_decoded;
  context->adapters = cache ? cache->adapters() : nullptr;
  context->recomputes_mlp = recomputes_mlp;
  context->dropout = dropout_keys(batch, training);
  return context;
}

at::Tensor DecoderLm::hidden_states(const Batch& batch, const nn::BlockRunner& runner, const TrainingMode* training,
                                    nn::KvCache* cache) {
  const nn::ForwardContextPtr context =
      make_context(batch, training, cache, runner.keep() == nn::BlockRunner::Keep::kSelected);
  at::Tensor hidden;
  {
    // A frozen embedding needs no node of its own.
    at::AutoGradMode grad_mode(at::GradMode::is_enabled() && body_->embed_tokens->weight().requires_grad());
    hidden = runner.run(
        0, [body = body_](const auto& in) { return std::vector<at::Tensor>{body->embed_tokens->forward(in[0])}; },
        {batch.ids})[0];
  }
  nn::Residual stream{hidden, {}};
  for (int64_t layer = 0; layer < spec().num_hidden_layers; ++layer) {
    const auto block_with = [module = body_->layers[layer], context](nn::Values values) {
      return [=](const std::vector<at::Tensor>& in) {
        const nn::Residual out = module->forward({in[0], in.size() > 1 ? in[1] : at::Tensor()}, *context, values);
        return std::vector<at::Tensor>{out.base, out.added};
      };
    };
    // where inputs are kept they are one tensor
    if (runner.keep() == nn::BlockRunner::Keep::kInput) stream = {stream.sum(), {}};
    std::vector<at::Tensor> inputs = {stream.base};
    if (stream.added.defined()) inputs.push_back(stream.added);
    const auto outputs = runner.run(layer + 1, block_with(nn::Values::kRead), inputs, block_with(nn::Values::kUnread));
    stream = {outputs[0], outputs[1]};
  }
  return stream.sum();
}

std::vector<at::Tensor> DecoderLm::run_head(
    const at::Tensor& rows, const nn::BlockRunner& runner,
    const std::function<std::vector<at::Tensor>(const at::Tensor&, const nn::Linear&)>& head) {
  const auto block = [body = body_, lm_head = lm_head_, head](const auto& in) {
    return head(body->norm->forward(in[0]), *lm_head);
  };
  return runner.run(num_blocks() - 1, block, {rows});
}

}  // namespace dsft::model
