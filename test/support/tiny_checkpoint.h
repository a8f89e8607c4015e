#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "support/fixtures.h"
#include "support/temp_dir.h"

namespace dsft::test {

/// Writes a one-layer llama checkpoint of zeros with a small trained tokenizer into a folder, without LibTorch; gives
/// the folder's path.
inline std::filesystem::path write_tiny_checkpoint(const TempDir& folder, const std::string& name) {
  folder.write(
      name + "/config.json",
      R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 1024, "hidden_size": 8, "intermediate_size": 16,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "tie_word_embeddings": true, "rope_theta": 10000.0, "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2})");
  const std::filesystem::path directory = folder / name;
  for (const auto& entry : std::filesystem::directory_iterator(fixture_path("data/tokenizer")))
    std::filesystem::copy(entry.path(), directory / entry.path().filename());
  const std::string layer = "model.layers.0.";
  const std::vector<std::pair<std::string, std::vector<int64_t>>> shapes{
      {"model.embed_tokens.weight", {1024, 8}},    {"model.norm.weight", {8}},
      {layer + "input_layernorm.weight", {8}},     {layer + "post_attention_layernorm.weight", {8}},
      {layer + "self_attn.q_proj.weight", {8, 8}}, {layer + "self_attn.k_proj.weight", {4, 8}},
      {layer + "self_attn.v_proj.weight", {4, 8}}, {layer + "self_attn.o_proj.weight", {8, 8}},
      {layer + "mlp.gate_proj.weight", {16, 8}},   {layer + "mlp.up_proj.weight", {16, 8}},
      {layer + "mlp.down_proj.weight", {8, 16}}};
  std::vector<io::TensorInfo> tensors;
  size_t num_bytes = 0;
  for (const auto& [tensor, shape] : shapes) {
    tensors.push_back({tensor, io::DType::kF32, shape, 0, 0});
    num_bytes += static_cast<size_t>(tensors.back().num_elements()) * 4;
  }
  io::SafetensorsWriter writer(directory / "model.safetensors", tensors, {{"format", "pt"}});
  const std::string zeros(num_bytes, '\0');
  writer.write(zeros.data(), zeros.size());
  writer.finish();
  return directory;
}

/// Writes an adapter of q_proj with rank 2 and alpha 4 for that checkpoint, as PEFT does; gives the folder's path.
inline std::filesystem::path write_tiny_adapter(const TempDir& folder, const std::string& name) {
  folder.write(
      name + "/adapter_config.json",
      R"({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "bias": "none",
    "target_modules": ["q_proj"], "base_model_name_or_path": "model"})");
  const std::string module = "base_model.model.model.layers.0.self_attn.q_proj.";
  io::SafetensorsWriter writer(folder / name / "adapter_model.safetensors",
                               {{module + "lora_A.weight", io::DType::kF32, {2, 8}, 0, 0},
                                {module + "lora_B.weight", io::DType::kF32, {8, 2}, 0, 0}},
                               {});
  const std::string zeros(128, '\0');
  writer.write(zeros.data(), zeros.size());
  writer.finish();
  return folder / name;
}

}  // namespace dsft::test
