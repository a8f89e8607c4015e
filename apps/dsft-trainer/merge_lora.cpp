#include "checkpoint/merge_lora.h"

#include <torch/types.h>

#include "dsft-trainer/tasks.h"
#include "recipe/build_model.h"

namespace dsft::apps {
namespace {

// numerics.md: merged against base + adapter in fp32.
constexpr double kLogitBound = 1e-4;
constexpr int64_t kPromptTokens = 64;

std::optional<at::ScalarType> scalar_type_of(const std::optional<spec::ComputeDtype>& dtype) {
  if (!dtype) return std::nullopt;
  return recipe::torch_dtype(dtype, at::kCPU);
}

// Logits of a fixed prompt: ids spread over the vocabulary.
at::Tensor fixed_logits(model::CausalLm& model) {
  torch::NoGradGuard no_grad;
  Document document;
  for (int64_t i = 0; i < kPromptTokens; ++i)
    document.ids.push_back(static_cast<int32_t>((i * 7919 + 13) % model.spec().vocab_size));
  document.labels.assign(document.ids.size(), -100);
  const nn::BlockRunner runner;
  return model.logits(model.hidden_states(make_batch({document}, 0), runner, nullptr), runner);
}

// With weights rounded to 16 bits the merged model differs by that rounding; the bound is then that of the type's
// precision.
void compare_logits(const MergeLoraOptions& options, const std::filesystem::path& merged, const Logger& logger) {
  const Logger quiet(0, /*is_quiet=*/true);
  const at::Tensor separate =
      fixed_logits(*recipe::load_model({.path = options.base, .adapter = options.adapter}, quiet).model);
  const at::Tensor together = fixed_logits(*recipe::load_model({.path = merged.string()}, quiet).model);
  const double difference = (separate - together).abs().max().item<double>();
  const double scale = std::max(1.0, separate.abs().max().item<double>());
  const io::SafetensorsSet files = io::SafetensorsSet::open(merged);
  bool is_rounded = false;
  for (const std::string& name : files.names()) is_rounded = is_rounded || files.find(name)->dtype != io::DType::kF32;
  const double bound = is_rounded ? 0.05 * scale : kLogitBound * scale;
  logger.info("verified: logits of base + adapter and of the merged model differ by at most ", difference,
              " (largest logit ", scale, ", bound ", bound, is_rounded ? ", weights rounded to 16 bits)" : ")");
  if (!(difference <= bound))
    fail(ErrorKind::kCheckpoint, "The merged model differs from base + adapter: logits by ", difference, ", more than ",
         bound, ". Nothing was written to ", options.output, ".");
}

}  // namespace

int run_merge_lora(const MergeLoraOptions& options, const Logger& logger) {
  const checkpoint::MergeRequest request{.base = spec::find_model(options.base, ""),
                                         .adapter = options.adapter,
                                         .output = options.output,
                                         .dtype = scalar_type_of(options.dtype),
                                         .verify = options.is_verified};
  checkpoint::merge_lora(request, logger,
                         [&](const std::filesystem::path& merged) { compare_logits(options, merged, logger); });
  logger.info("wrote the merged model to ", options.output);
  return 0;
}

}  // namespace dsft::apps
