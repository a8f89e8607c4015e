#include "merge_lora.h"

#include "spec/model_spec.h"

namespace dsft::apps {

namespace {

std::optional<at::ScalarType> scalar_type_of(const std::optional<spec::ComputeDtype>& dtype) {
  if (!dtype) return std::nullopt;
  switch (*dtype) {
    case spec::ComputeDtype::kBf16:
      return at::kBFloat16;
    case spec::ComputeDtype::kFp16:
      return at::kHalf;
    case spec::ComputeDtype::kFp32:
      return at::kFloat;
  }
  return std::nullopt;
}

}  // namespace

int run_merge_lora(const MergeLoraOptions& options, const Logger& logger,
                   const checkpoint::CompareLogits& compare_logits) {
  const checkpoint::MergeRequest request{.base = spec::find_model(options.base, ""),
                                         .adapter = options.adapter,
                                         .output = options.output,
                                         .dtype = scalar_type_of(options.dtype),
                                         .verify = options.is_verified};
  checkpoint::merge_lora(request, logger, compare_logits);
  logger.info("Wrote the merged model to ", options.output, ".");
  return 0;
}

}  // namespace dsft::apps
