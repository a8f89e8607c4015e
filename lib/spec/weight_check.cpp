#include "spec/weight_check.h"

#include <set>

#include "base/error.h"
#include "spec/json_fields.h"

namespace dsft::spec {

namespace {

bool is_readable(io::DType dtype) {
  return dtype == io::DType::kF32 || dtype == io::DType::kBF16 || dtype == io::DType::kF16;
}

}  // namespace

bool is_ignored_tensor(const ModelSpec& spec, const std::string& name) {
  return name.ends_with("rotary_emb.inv_freq") || (spec.tie_word_embeddings && name == "lm_head.weight");
}

std::vector<std::string> check_weights(const ModelSpec& spec, const io::SafetensorsSet& weights,
                                       std::optional<int64_t> num_token_ids) {
  std::vector<std::string> faults;
  std::set<std::string> expected;
  for (const TensorSpec& tensor : tensor_inventory(spec)) {
    expected.insert(tensor.name);
    const io::TensorInfo* info = weights.find(tensor.name);
    if (info == nullptr) {
      faults.push_back(concat("missing: ", tensor.name, " ", io::shape_text(tensor.shape),
                              tensor.name == "lm_head.weight" ? " (config.json says tie_word_embeddings: false)" : ""));
    } else if (info->shape != tensor.shape) {
      faults.push_back(concat("wrong shape: ", tensor.name, " is ", io::shape_text(info->shape),
                              ", but config.json asks for ", io::shape_text(tensor.shape)));
    } else if (!is_readable(info->dtype)) {
      faults.push_back(concat("unreadable type: ", tensor.name, " is ", io::dtype_name(info->dtype),
                              "; dsft reads F32, BF16 and F16"));
    }
  }
  for (const std::string& name : weights.names()) {
    if (!expected.contains(name) && !is_ignored_tensor(spec, name))
      faults.push_back(concat("unexpected: ", name, " ", io::shape_text(weights.find(name)->shape)));
  }
  if (num_token_ids && *num_token_ids > spec.vocab_size) {
    faults.push_back(concat(
        "the tokenizer has ", *num_token_ids, " ids, but the embedding has ", spec.vocab_size,
        " rows (vocab_size): the tokenizer is of another model, or tokens were added without resizing the embedding"));
  }
  return faults;
}

void require_weights(const ModelSpec& spec, const io::SafetensorsSet& weights, const std::filesystem::path& directory,
                     std::optional<int64_t> num_token_ids) {
  const std::vector<std::string> faults = check_weights(spec, weights, num_token_ids);
  if (faults.empty()) return;
  std::string text = concat("The weights in ", directory.string(), " do not fit its config.json (", spec.model_type,
                            "), ", faults.size(), " faults:");
  for (const std::string& fault : faults) text += "\n  - " + fault;
  fail(ErrorKind::kCheckpoint, text);
}

}  // namespace dsft::spec
