#include "checkpoint/merge_lora.h"

#include <torch/types.h>

#include <algorithm>

#include "base/counter_random.h"
#include "base/error.h"
#include "base/nearest_name.h"
#include "checkpoint/adapter.h"
#include "checkpoint/load_weights.h"
#include "checkpoint/model_files.h"
#include "checkpoint/shards.h"
#include "io/atomic_directory.h"
#include "spec/text_folders.h"
#include "spec/weight_check.h"

namespace dsft::checkpoint {

namespace fs = std::filesystem;

namespace {

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";

/// The parts of one merge: where each output tensor comes from.
class Merge {
 public:
  explicit Merge(const MergeRequest& request)
      : request_(request), spec_(spec::read_model_spec(request.base)), base_(io::SafetensorsSet::open(request.base)) {
    spec::require_weights(spec_, base_, request.base);
    require_tied_head(spec_, base_);
    adapter_ = load_adapter(request.adapter, spec_);
    untie_ = spec_.tie_word_embeddings && changes_embedding();
    for (const spec::TensorSpec& tensor : spec::tensor_inventory(spec_)) names_.push_back(tensor.name);
    if (untie_) names_.emplace_back(kHead);
  }

  const std::vector<std::string>& names() const { return names_; }
  bool unties() const { return untie_; }
  const Adapter& adapter() const { return adapter_; }

  at::ScalarType output_type(const std::string& name) const {
    return request_.dtype.value_or(to_scalar_type(base_info(name).dtype));
  }

  std::vector<int64_t> shape(const std::string& name) const { return base_info(name).shape; }

  /// The base's tensor in fp32, or what was trained in its place.
  at::Tensor base_tensor(const std::string& name) const {
    for (const auto* trained : {&adapter_.weights.modules_to_save, &adapter_.weights.biases}) {
      const auto at = trained->find(name);
      if (at != trained->end()) return at->second;
    }
    return read_tensor(base_, base_info(name)).to(at::kFloat);
  }

  /// The low-rank update of a weight, or null.
  const AdapterModule* update_of(const std::string& name) const {
    if (!name.ends_with(".weight")) return nullptr;
    const auto at = adapter_.weights.modules.find(name.substr(0, name.size() - 7));
    return at == adapter_.weights.modules.end() ? nullptr : &at->second;
  }

  at::Tensor merged_tensor(const std::string& name) const {
    at::Tensor weight = base_tensor(name);
    if (const AdapterModule* update = update_of(name))
      weight = weight + at::matmul(update->b, update->a) * update->scale;
    const at::Tensor result = weight.to(output_type(name));
    if (!at::isfinite(result).all().item<bool>()) {
      fail(ErrorKind::kCheckpoint, "Merging makes values in ", name, " that are not finite",
           output_type(name) == at::kHalf ? " in fp16; use --dtype bf16 or fp32."
                                          : ": the adapter or the base is broken.");
    }
    return result;
  }

 private:
  /// A head that is written on its own only because of the merge begins as the embedding.
  const io::TensorInfo& base_info(const std::string& name) const {
    return *base_.find(spec_.tie_word_embeddings && name == kHead ? kEmbedding : name);
  }

  bool changes_embedding() const {
    const auto& saved = adapter_.weights.modules_to_save;
    return saved.contains(kHead) || saved.contains(kEmbedding) || adapter_.weights.modules.contains("lm_head");
  }

  const MergeRequest& request_;
  spec::ModelSpec spec_;
  io::SafetensorsSet base_;
  Adapter adapter_;
  std::vector<std::string> names_;
  bool untie_ = false;
};

/// The text folder of base + adapter, and says what it means.
fs::path choose_text_directory(const MergeRequest& request, const Logger& logger) {
  const fs::path directory = spec::find_text_folders(request.base, request.adapter.string()).text;
  const std::vector<std::string> of_adapter = find_tokenizer_files(request.adapter);
  if (directory == request.adapter) {
    logger.info("Tokenizer and chat template are those in ", directory.string(), ".");
  } else if (!of_adapter.empty()) {
    logger.warn(request.adapter.string(), " has ", join_words(of_adapter),
                ", but no tokenizer.json: tokenizer and chat template are taken from ", directory.string(), " alone.");
  }
  return directory;
}

at::Tensor random_vector(int64_t size, const std::string& name) {
  const CounterStream stream(0, hash_name(name));
  at::Tensor vector = at::empty({size}, at::kDouble);
  for (int64_t i = 0; i < size; ++i) vector[i] = 2.0 * stream.uniform(static_cast<uint64_t>(i)) - 1.0;
  return vector;
}

/// Largest relative error of one rounding to a type.
double rounding_of(at::ScalarType type) {
  return type == at::kBFloat16 ? 0x1p-8 : type == at::kHalf ? 0x1p-11 : 0x1p-23;
}

/// Applies the written weight and its definition W x + scale * B (A x) to a random x in fp64; the bound is the rounding
/// of each weight on the way.
void verify_tensor(const Merge& merge, const io::SafetensorsSet& written, const std::string& name) {
  const io::TensorInfo* info = written.find(name);
  if (info == nullptr || info->shape != merge.shape(name))
    fail(ErrorKind::kCheckpoint, "Verification failed: ", name, " is not in the merged files as it should be.");
  const at::Tensor merged = read_tensor(written, *info).to(at::kDouble);
  const at::Tensor base = merge.base_tensor(name).to(at::kDouble);
  const at::Tensor x = base.dim() == 2 ? random_vector(base.size(1), name) : at::Tensor();
  at::Tensor expected = base.dim() == 2 ? at::mv(base, x) : base;
  at::Tensor magnitude = base.dim() == 2 ? at::mv(base.abs(), x.abs()) : base.abs();
  if (const AdapterModule* update = merge.update_of(name)) {
    const at::Tensor a = update->a.to(at::kDouble);
    const at::Tensor b = update->b.to(at::kDouble);
    expected = expected + at::mv(b, at::mv(a, x)) * update->scale;
    magnitude = magnitude + at::mv(b.abs(), at::mv(a.abs(), x.abs())) * std::abs(update->scale);
  }
  const at::Tensor actual = base.dim() == 2 ? at::mv(merged, x) : merged;
  const double bound = rounding_of(merge.output_type(name)) + 0x1p-20;
  // fp16 rounds small values absolutely (subnormal numbers)
  const double floor = merge.output_type(name) == at::kHalf ? 0x1p-24 * static_cast<double>(base.size(-1)) : 1e-30;
  if (!((actual - expected).abs() <= magnitude * bound + floor).all().item<bool>()) {
    fail(ErrorKind::kCheckpoint, "Verification failed: the merged ", name,
         " is not the base plus the adapter; largest difference ", (actual - expected).abs().max().item<double>(), ".");
  }
}

}  // namespace

void merge_lora(const MergeRequest& request, const Logger& logger, const CompareLogits& compare_logits) {
  const at::NoGradGuard no_grad;
  require_new_output(request.output);
  const Merge merge(request);
  for (const std::string& warning : merge.adapter().settings.warnings) logger.warn(warning);
  std::vector<io::TensorInfo> infos;
  for (const std::string& name : merge.names())
    infos.push_back(describe_tensor(name, merge.shape(name), merge.output_type(name)));
  io::AtomicDirectory output(request.output);
  ModelFileChanges changes{.dtype = request.dtype,
                           .tie_word_embeddings = {},
                           .chat_template = {},
                           .text_directory = choose_text_directory(request, logger)};
  if (merge.unties()) {
    changes.tie_word_embeddings = false;
    logger.info(
        "The adapter changes one side of the tied embedding: both are written, and tie_word_embeddings becomes false.");
  }
  copy_model_files(request.base, output.path(), changes);
  ShardWriter writer(output.path(), std::move(infos), request.max_shard_bytes);
  for (const std::string& name : merge.names())
    write_tensor(writer.next(), merge.merged_tensor(name), merge.output_type(name));
  writer.finish();
  if (request.verify) {
    const io::SafetensorsSet written = io::SafetensorsSet::open(output.path());
    for (const std::string& name : merge.names()) verify_tensor(merge, written, name);
    logger.info("Verified ", merge.names().size(), " tensors against base plus adapter.");
    if (compare_logits) compare_logits(output.path());
  }
  output.commit();
}

}  // namespace dsft::checkpoint
