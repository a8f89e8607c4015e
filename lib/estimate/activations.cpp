#include "estimate/activations.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "base/error.h"
#include "estimate/parameter_blocks.h"
#include "spec/lora_targets.h"

namespace dsft::estimate {
namespace {

using Recompute = train::GradientCheckpointing;

constexpr int64_t kStream = 8;  // an int64 of the batch

// Rows whose logits exist at a time, as lib/loss/token_log_probs.cpp cuts them.
int64_t rows_of_chunk(bool is_trained, int64_t width, int64_t vocabulary) {
  constexpr int64_t kTile = 256, kFewest = 16;
  const int64_t elements = is_trained ? (int64_t{1} << 29) / width : int64_t{1} << 26;
  const int64_t rows = elements / vocabulary;
  return rows < kTile / 2 ? std::max(kFewest, rows) : (rows + kTile / 2) / kTile * kTile;
}

// Of a micro-batch; with more the bytes of a large model are no int64.
constexpr int64_t kMostTokens = int64_t{1} << 34;

// How the linear layers of a model are trained, by module.
struct Training {
  std::map<std::string, int64_t> ranks;  // of LoRA
  std::set<std::string> weights;         // trained themselves
};

Training training_of(const Workload& workload) {
  Training training;
  for (const std::string& name : trained_tensors(workload)) training.weights.insert(name);
  if (!workload.lora) return training;
  for (const spec::LoraTarget& target : match_lora_targets(workload.model, *workload.lora))
    training.ranks[target.module] = target.r;
  return training;
}

// Linear layers of one input, which are one node of the graph (nn/side_by_side.h).
struct Group {
  int64_t rank = 0;          // of all adapters
  int64_t narrow = 0;        // elements of A and B in the type of the arithmetic
  bool reads_input = false;  // in the backward pass

  Group(const Training& training, const std::string& layer, int64_t in, bool packs,
        const std::vector<std::pair<std::string, int64_t>>& modules) {
    int64_t columns = 0;
    for (const auto& [name, width] : modules) {
      const auto found = training.ranks.find(layer + name);
      const int64_t own = found == training.ranks.end() ? 0 : found->second;
      rank += own;
      columns += width;
      narrow += own * (in + (packs ? 0 : width));
      reads_input = reads_input || own > 0 || training.weights.contains(layer + name + ".weight");
    }
    if (packs) narrow += rank * columns;  // B is block-diagonal
  }
};

// Bytes of one layer in the moments that matter.
struct LayerBytes {
  int64_t kept = 0;  // between its forward and its backward pass
  int64_t most = 0;  // while its backward pass runs
};

class Layer {
 public:
  Layer(const Workload& workload, const Training& training, int64_t index)
      : workload_(workload),
        spec_(workload.model),
        width_(bytes_of(workload.dtype)),
        q_(spec_.num_attention_heads * spec_.head_dim),
        kv_(spec_.num_key_value_heads * spec_.head_dim),
        name_("model.layers." + std::to_string(index) + "."),
        has_kernels_(workload.is_on_gpu && width_ == 2),
        qkv_(training, name_ + "self_attn.", spec_.hidden_size, has_kernels_,
             {{"q_proj", q_}, {"k_proj", kv_}, {"v_proj", kv_}}),
        o_(training, name_ + "self_attn.", q_, has_kernels_, {{"o_proj", spec_.hidden_size}}),
        gate_up_(training, name_ + "mlp.", spec_.hidden_size, has_kernels_,
                 {{"gate_proj", spec_.intermediate_size}, {"up_proj", spec_.intermediate_size}}),
        down_(training, name_ + "mlp.", spec_.intermediate_size, has_kernels_, {{"down_proj", spec_.hidden_size}}) {}

  LayerBytes bytes() const {
    const int64_t kept = kept_by_attention() + kept_by_mlp();
    LayerBytes bytes{.kept = kept, .most = kept + std::max(mlp_backward(), attention_backward())};
    if (workload_.recompute == Recompute::kTrue) {
      bytes.most = std::max(bytes.most, kept + forward_again());
      bytes.kept = rows(spec_.hidden_size);
    }
    return bytes;
  }

  int64_t narrow_adapters() const { return (qkv_.narrow + o_.narrow + gate_up_.narrow + down_.narrow) * width_; }

 private:
  // [T, columns] in the type of the arithmetic
  int64_t rows(int64_t columns) const { return workload_.num_tokens() * columns * width_; }
  int64_t floats(int64_t columns) const { return workload_.num_tokens() * columns * kFloatBytes; }
  bool has_groups_of_heads() const { return q_ != kv_; }
  bool recomputes_mlp() const { return workload_.recompute == Recompute::kSelective; }

  // the residual stream, which the norm reads again, and its inverse rms
  int64_t norm() const { return rows(spec_.hidden_size) + floats(1); }

  int64_t kept_by_attention() const {
    int64_t bytes = norm() + rows(qkv_.rank + o_.rank) + (qkv_.narrow + o_.narrow) * width_;
    if (qkv_.reads_input) bytes += rows(spec_.hidden_size);
    bytes += rows(q_) + floats(spec_.num_attention_heads);  // the result, log-sum-exp
    if (has_kernels_) return bytes + rows(q_ + 2 * kv_);    // q, k, v as they were multiplied
    bytes += rows(q_);                                      // rotated
    // keys and values are repeated for their query heads; without groups v is a view of the product
    bytes += has_groups_of_heads() ? rows(2 * q_) : rows(kv_) + rows(q_ + 2 * kv_);
    if (spec_.has_qk_norm) bytes += rows(q_ + kv_) + floats(spec_.num_attention_heads + spec_.num_key_value_heads);
    if (workload_.num_documents > 1 && o_.reads_input) bytes += rows(q_);  // results of all documents as one
    return bytes;
  }

  int64_t kept_by_mlp() const {
    int64_t bytes = norm() + rows(down_.rank) + down_.narrow * width_;
    if (gate_up_.reads_input || recomputes_mlp()) bytes += rows(spec_.hidden_size);
    if (down_.reads_input) bytes += rows(spec_.intermediate_size);
    if (recomputes_mlp()) return bytes;
    return bytes + rows(2 * spec_.intermediate_size + gate_up_.rank) + gate_up_.narrow * width_;
  }

  // beside what is kept: the stream's gradients and that of down's input; where gate and up are computed again, they
  // and their product. Their gradients take their place.
  int64_t mlp_backward() const {
    const int64_t again = recomputes_mlp() ? 3 * spec_.intermediate_size : 0;
    return rows(2 * spec_.hidden_size + spec_.intermediate_size + again);
  }

  // what the MLP kept is gone by then
  int64_t attention_backward() const {
    const int64_t gradients = rows(spec_.hidden_size + q_);  // of the stream and the result
    const int64_t qkv = rows(q_ + 2 * kv_);
    int64_t bytes = gradients + 2 * qkv - kept_by_mlp();  // of q, k, v, rotated and as multiplied
    if (!has_kernels_) return bytes + (has_groups_of_heads() ? rows(2 * q_) : 0);
    bytes += rows(q_ + kv_) + floats(q_) + floats(spec_.num_attention_heads);  // q, k turned again; sums of dq
    return bytes + (has_groups_of_heads() ? rows(2 * q_) : 0);                 // dk, dv of each query head
  }

  // a layer that is computed again: the output's gradient, the MLP's input and product, and an output without values
  int64_t forward_again() const {
    return rows(2 * spec_.hidden_size + (gate_up_.reads_input ? 0 : spec_.hidden_size) +
                (down_.reads_input ? 0 : spec_.intermediate_size));
  }

  const Workload& workload_;
  const spec::ModelSpec& spec_;
  int64_t width_, q_, kv_;
  std::string name_;
  bool has_kernels_;
  Group qkv_, o_, gate_up_, down_;
};

bool trains_head(const Workload& workload, const Training& training) {
  return training.weights.contains("lm_head.weight") ||
         (workload.model.tie_word_embeddings && training.weights.contains("model.embed_tokens.weight"));
}

int64_t loss_bytes(const Workload& workload, const Training& training) {
  const int64_t width = bytes_of(workload.dtype), vocabulary = workload.model.vocab_size;
  const int64_t chunk =
      std::min(workload.num_tokens(), rows_of_chunk(trains_head(workload, training), width, vocabulary));
  const bool is_adapted = training.ranks.contains("lm_head");
  // logits; an adapter's also as fp32 log-softmax, with the gradients of both
  const int64_t logit = is_adapted ? 2 * width + 2 * kFloatBytes : width;
  // hidden states: all, the supervised ones, normalised, and their gradients; log-probabilities and what scales them
  return chunk * vocabulary * logit +
         workload.num_tokens() * (4 * workload.model.hidden_size * width + 4 * kFloatBytes);
}

}  // namespace

ActivationBytes estimate_activations(const Workload& workload) {
  const spec::ModelSpec& spec = workload.model;
  if (workload.num_documents > kMostTokens / workload.length)
    fail(ErrorKind::kUsage, "a micro-batch of ", workload.num_documents, " rows of ", workload.length,
         " tokens fits into no memory: write fewer rows (training.per_device_train_batch_size, --batch-size) or a "
         "smaller ",
         workload.sampled ? "grpo.max_completion_length" : "data.max_length (--length)");
  const Training training = training_of(workload);
  ActivationBytes bytes;
  // cos and sin; ids, positions, labels, places of labels, samples and keys
  bytes.kept = workload.num_tokens() * (spec.head_dim * kFloatBytes + 6 * kStream);
  for (int64_t index = 0; index < spec.num_hidden_layers; ++index) {
    const LayerBytes layer = Layer(workload, training, index).bytes();
    bytes.kept += layer.kept;
    bytes.working = std::max(bytes.working, layer.most - layer.kept);
  }
  bytes.loss = loss_bytes(workload, training);
  return bytes;
}

int64_t narrow_adapter_bytes(const Workload& workload) {
  if (!workload.lora) return 0;
  const Training training = training_of(workload);
  int64_t bytes = 0;
  for (int64_t index = 0; index < workload.model.num_hidden_layers; ++index)
    bytes += Layer(workload, training, index).narrow_adapters();
  return bytes;
}

int64_t decoding_step_bytes(const Workload& workload, int64_t num_sequences) {
  const spec::ModelSpec& spec = workload.model;
  const int64_t head = spec.vocab_size + 2 * spec.hidden_size;  // logits, hidden states and their norm
  // the two parts of the stream and their norm, with q, k, v and the result, or gate, up and their product
  const int64_t qkv = (2 * spec.num_attention_heads + 2 * spec.num_key_value_heads) * spec.head_dim;
  const int64_t layer = 3 * spec.hidden_size + std::max(qkv, 3 * spec.intermediate_size);
  return num_sequences * std::max(head, layer) * bytes_of(workload.dtype);
}

}  // namespace dsft::estimate
