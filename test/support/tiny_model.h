#pragma once

#include <torch/types.h>

#include <filesystem>
#include <map>
#include <string>

#include "batch/batch.h"
#include "io/safetensors.h"
#include "model/causal_lm.h"
#include "spec/model_spec.h"

namespace dsft::test {

inline std::filesystem::path model_fixture(const std::string& name) {
  return std::filesystem::path(DSFT_SOURCE_DIR) / "test/fixtures/model" / name;
}

/// All tensors of a safetensors file (fp32 and int64).
inline std::map<std::string, at::Tensor> read_tensors(const std::filesystem::path& path) {
  const io::SafetensorsFile file = io::SafetensorsFile::open(path);
  std::map<std::string, at::Tensor> tensors;
  for (const io::TensorInfo& info : file.tensors()) {
    at::Tensor tensor = torch::empty(info.shape, info.dtype == io::DType::kI64 ? at::kLong : at::kFloat);
    file.read(info, tensor.data_ptr());
    tensors[info.name] = tensor;
  }
  return tensors;
}

/// A tiny random model of test/fixtures/model, in fp32.
inline std::shared_ptr<model::CausalLm> load_tiny_model(const std::string& name, at::Device device = at::kCPU) {
  const spec::ModelSpec spec = spec::read_model_spec(model_fixture(name));
  auto lm = model::build_causal_lm(spec, at::kFloat, device);
  const auto weights = read_tensors(model_fixture(name) / "model.safetensors");
  torch::NoGradGuard no_grad;
  for (auto& [key, parameter] : model::named_parameters_of(*lm)) parameter.copy_(weights.at(key));
  return lm;
}

/// Documents of random tokens, all but a third of each supervised.
inline std::vector<Document> random_documents(const std::vector<int64_t>& lengths, int64_t vocab_size, uint64_t seed) {
  torch::manual_seed(seed);
  std::vector<Document> documents;
  for (size_t d = 0; d < lengths.size(); ++d) {
    Document document;
    const at::Tensor ids = torch::randint(vocab_size, {lengths[d]}, at::kLong);
    for (int64_t i = 0; i < lengths[d]; ++i) {
      document.ids.push_back(static_cast<int32_t>(ids[i].item<int64_t>()));
      document.labels.push_back(i < lengths[d] / 3 ? -100 : document.ids.back());
    }
    document.sample = static_cast<int64_t>(d);
    documents.push_back(document);
  }
  return documents;
}

}  // namespace dsft::test
