#include "train/non_finite.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/model_slices.h"
#include "io/file.h"
#include "lora/adapters.h"

namespace dsft::train {
namespace {

nlohmann::ordered_json samples_of(const std::vector<Batch>& micro_batches) {
  nlohmann::ordered_json samples = nlohmann::json::array();
  for (const Batch& batch : micro_batches)
    for (int64_t d = 0; d < batch.num_documents(); ++d) samples.push_back(batch.samples[d].item<int64_t>());
  return samples;
}

nlohmann::ordered_json parameters_not_finite(const Job& job) {
  nlohmann::ordered_json names = nlohmann::json::array();
  const auto note = [&](const std::string& name, const at::Tensor& parameter) {
    if (!parameter.isfinite().all().item<bool>()) names.push_back(name);
  };
  for (const checkpoint::TensorSlice& slice :
       checkpoint::own_slices(model::named_parameters_of(*job.model), job.shards.get()))
    note(slice.name, slice.values);
  for (const lora::TrainableTensor& item : lora::trainable_tensors(*job.model))
    if (item.is_adapter) note(item.name, item.tensor);
  return names;
}

}  // namespace

void fail_not_finite(const StepReport& report, const std::vector<Batch>& micro_batches, const Job& job,
                     const RunContext& context) {
  const nlohmann::ordered_json diagnostics = {{"step", report.step},
                                              {"epoch", report.epoch},
                                              {"rank", context.communicator.rank()},
                                              {"loss_scale", report.loss_scale},
                                              {"samples", samples_of(micro_batches)},
                                              {"parameters_not_finite", parameters_not_finite(job)}};
  const std::filesystem::path path = context.output_dir / concat("diagnostics-", context.communicator.rank(), ".json");
  try {
    io::replace_text_file(path, diagnostics.dump(2) + "\n");
  } catch (const Error& error) {
    context.logger.warn_here(error.message());
  }
  context.communicator.barrier();  // the first rank to fail ends the others
  fail(ErrorKind::kData, "Loss or gradients were not finite in ", kMaxBadSteps, " updates in a row, up to step ",
       report.step, " (loss ", report.loss, ", gradient norm ", report.grad_norm,
       "). The samples and weights in question are in ", path.string(),
       ". Lower training.learning_rate, use model.dtype bf16 instead of fp16, or look at those rows.");
}

}  // namespace dsft::train
