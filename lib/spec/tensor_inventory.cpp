#include "spec/model_spec.h"

namespace dsft::spec {

namespace {

class Inventory {
 public:
  void linear(const std::string& module, int64_t out_features, int64_t in_features, bool has_bias) {
    tensors_.push_back({module + ".weight", {out_features, in_features}, true});
    if (has_bias) tensors_.push_back({module + ".bias", {out_features}, false});
  }
  void vector(const std::string& name, int64_t size) { tensors_.push_back({name, {size}, false}); }
  void table(const std::string& name, int64_t rows, int64_t columns) {
    tensors_.push_back({name, {rows, columns}, false});
  }
  std::vector<TensorSpec> take() { return std::move(tensors_); }

 private:
  std::vector<TensorSpec> tensors_;
};

void add_layer(const ModelSpec& spec, const std::string& layer, Inventory& inventory) {
  const int64_t queries = spec.num_attention_heads * spec.head_dim;
  const int64_t keys = spec.num_key_value_heads * spec.head_dim;
  const std::string attention = layer + ".self_attn.";
  inventory.linear(attention + "q_proj", queries, spec.hidden_size, spec.attention_bias);
  inventory.linear(attention + "k_proj", keys, spec.hidden_size, spec.attention_bias);
  inventory.linear(attention + "v_proj", keys, spec.hidden_size, spec.attention_bias);
  inventory.linear(attention + "o_proj", spec.hidden_size, queries, spec.attention_output_bias);
  if (spec.has_qk_norm) {
    inventory.vector(attention + "q_norm.weight", spec.head_dim);
    inventory.vector(attention + "k_norm.weight", spec.head_dim);
  }
  inventory.linear(layer + ".mlp.gate_proj", spec.intermediate_size, spec.hidden_size, spec.mlp_bias);
  inventory.linear(layer + ".mlp.up_proj", spec.intermediate_size, spec.hidden_size, spec.mlp_bias);
  inventory.linear(layer + ".mlp.down_proj", spec.hidden_size, spec.intermediate_size, spec.mlp_bias);
  inventory.vector(layer + ".input_layernorm.weight", spec.hidden_size);
  inventory.vector(layer + ".post_attention_layernorm.weight", spec.hidden_size);
}

}  // namespace

std::vector<TensorSpec> tensor_inventory(const ModelSpec& spec) {
  Inventory inventory;
  inventory.table("model.embed_tokens.weight", spec.vocab_size, spec.hidden_size);
  for (int64_t i = 0; i < spec.num_hidden_layers; ++i) add_layer(spec, "model.layers." + std::to_string(i), inventory);
  inventory.vector("model.norm.weight", spec.hidden_size);
  if (!spec.tie_word_embeddings) inventory.linear("lm_head", spec.vocab_size, spec.hidden_size, false);
  return inventory.take();
}

}  // namespace dsft::spec
