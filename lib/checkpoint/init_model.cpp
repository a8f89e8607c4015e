#include "checkpoint/init_model.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/counter_random.h"
#include "base/error.h"
#include "checkpoint/model_files.h"
#include "checkpoint/shards.h"
#include "checkpoint/tensor_file.h"
#include "io/atomic_directory.h"
#include "io/file.h"
#include "io/json.h"
#include "spec/model_spec.h"

namespace dsft::checkpoint {

namespace fs = std::filesystem;

namespace {

/// Normal values by the Box-Muller transform: 64 random bits give the pair at 2i and 2i + 1.
void fill_normal(at::Tensor& tensor, double deviation, const CounterStream& stream) {
  float* values = tensor.data_ptr<float>();
  const int64_t count = tensor.numel();
  at::parallel_for(0, (count + 1) / 2, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const uint64_t bits = stream.bits(static_cast<uint64_t>(i));
      const double radius_uniform = (static_cast<double>(bits >> 32) + 0.5) * 0x1p-32;  // in (0, 1)
      const double angle = 2.0 * std::numbers::pi * static_cast<double>(bits & 0xFFFFFFFF) * 0x1p-32;
      const double radius = deviation * std::sqrt(-2.0 * std::log(radius_uniform));
      values[2 * i] = static_cast<float>(radius * std::cos(angle));
      if (2 * i + 1 < count) values[2 * i + 1] = static_cast<float>(radius * std::sin(angle));
    }
  });
}

at::Tensor initial_tensor(const spec::TensorSpec& tensor, const spec::ModelSpec& spec, uint64_t seed) {
  if (tensor.name.ends_with(".bias")) return at::zeros(tensor.shape);
  if (tensor.shape.size() == 1) return at::ones(tensor.shape);
  at::Tensor values = at::empty(tensor.shape);
  fill_normal(values, spec.initializer_range, CounterStream(seed, hash_name(tensor.name)));
  const bool has_padding_row =
      tensor.name == "model.embed_tokens.weight" && spec.pad_token_id && *spec.pad_token_id < spec.vocab_size;
  if (has_padding_row) values[*spec.pad_token_id].zero_();
  return values;
}

void check_request(const InitRequest& request, const spec::ModelSpec& spec) {
  require_new_output(request.output);
  if (request.num_token_ids > spec.vocab_size) {
    fail(ErrorKind::kCheckpoint, request.config.string(), ": vocab_size is ", spec.vocab_size,
         ", but the tokenizer in ", request.tokenizer.string(), " has ", request.num_token_ids,
         " ids. Set vocab_size to at least ", request.num_token_ids, ", or take the model's own tokenizer.");
  }
}

/// Replaces ids of special tokens that the tokenizer cannot give: a model could never stop on them.
void fit_token_ids(nlohmann::ordered_json& config, const InitRequest& request, const Logger& logger) {
  const auto fit = [&](const char* key, const std::optional<int32_t>& own) {
    if (!config.contains(key) || config[key].is_null()) return;
    const nlohmann::ordered_json ids =
        config[key].is_array() ? config[key] : nlohmann::ordered_json::array({config[key]});
    const bool fits = std::all_of(ids.begin(), ids.end(), [&](const auto& id) {
      return id.is_number_integer() && id.template get<int64_t>() >= 0 &&
             id.template get<int64_t>() < request.num_token_ids;
    });
    if (fits) return;
    const nlohmann::ordered_json value = own ? nlohmann::ordered_json(*own) : nlohmann::ordered_json(nullptr);
    logger.info(key, " ", config[key].dump(), " of config.json is no id of this tokenizer; ", value.dump(),
                " is written.");
    config[key] = value;
  };
  fit("bos_token_id", request.bos_token_id);
  fit("eos_token_id", request.eos_token_id);
  fit("pad_token_id", request.pad_token_id);
}

}  // namespace

void init_model(const InitRequest& request, const Logger& logger) {
  const spec::ModelSpec read = spec::read_model_spec_file(request.config);
  check_request(request, read);
  nlohmann::ordered_json config = io::read_ordered_json_file(request.config);
  fit_token_ids(config, request, logger);
  io::AtomicDirectory output(request.output);
  io::write_text_file(output.path() / "config.json", config.dump(2) + "\n");
  copy_tokenizer_files(request.tokenizer, output.path());
  const spec::ModelSpec spec = spec::read_model_spec(output.path());
  const at::ScalarType type = to_scalar_type(spec.dtype.value_or(io::DType::kF32));
  const std::vector<spec::TensorSpec> inventory = spec::tensor_inventory(spec);
  std::vector<io::TensorInfo> infos;
  for (const spec::TensorSpec& tensor : inventory) infos.push_back(describe_tensor(tensor.name, tensor.shape, type));
  ShardWriter writer(output.path(), std::move(infos), request.max_shard_bytes);
  int64_t num_parameters = 0;
  for (const spec::TensorSpec& tensor : inventory) {
    const at::Tensor values = initial_tensor(tensor, spec, request.seed);
    num_parameters += values.numel();
    write_tensor(writer.next(), values, type);
  }
  writer.finish();
  output.commit();
  logger.info("Wrote ", num_parameters, " random parameters (", spec.model_type, ", ", at::toString(type), ") to ",
              request.output.string(), ".");
}

}  // namespace dsft::checkpoint
