#include "rl/saved_round.h"

#include <torch/types.h>

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "checkpoint/agreed_step.h"
#include "checkpoint/tensor_file.h"
#include "comm/small_collectives.h"
#include "data/example.h"

namespace dsft::rl {
namespace {

constexpr const char* kRoundFile = "round.safetensors";
constexpr std::string_view kMetrics = "metrics/";

// Of all ranks, one behind the other. Collective.
at::Tensor gather_flat(const at::Tensor& own, comm::Communicator& communicator) {
  const std::string bytes(static_cast<const char*>(own.const_data_ptr()), own.nbytes());
  std::vector<at::Tensor> parts;
  for (std::string& part : comm::all_gather_bytes(communicator, bytes)) {
    const int64_t size = static_cast<int64_t>(part.size()) / own.element_size();
    parts.push_back(torch::from_blob(part.data(), {size}, own.options()).clone());
  }
  return torch::cat(parts);
}

// Of this rank.
checkpoint::NamedTensors tensors_of(const std::vector<Batch>& batches) {
  checkpoint::NamedTensors tensors;
  const auto add = [&](const char* name, const std::function<at::Tensor(const Batch&)>& of_batch) {
    std::vector<at::Tensor> parts;
    for (const Batch& batch : batches) parts.push_back(of_batch(batch));
    if (parts.front().defined()) tensors.emplace_back(name, torch::cat(parts));
  };
  add("samples", [](const Batch& batch) { return batch.samples; });
  add("lengths", [](const Batch& batch) { return batch.starts.diff().to(at::kLong); });
  add("completion_lengths", [](const Batch& batch) { return batch.policy->row_starts.diff(); });
  add("ids", [](const Batch& batch) { return batch.ids.to(at::kInt); });
  add("advantages", [](const Batch& batch) { return batch.policy->advantages; });
  add("row_weights", [](const Batch& batch) { return batch.policy->row_weights; });
  add("weights", [](const Batch& batch) { return batch.weights; });
  add("sampling_log_probs", [](const Batch& batch) { return batch.policy->sampling_log_probs; });
  add("old_log_probs", [](const Batch& batch) { return batch.policy->old_log_probs; });
  add("reference_log_probs", [](const Batch& batch) { return batch.policy->reference_log_probs; });
  return tensors;
}

at::Tensor read_flat(const io::SafetensorsFile& file, const std::string& name, at::ScalarType type,
                     std::optional<int64_t> size = {}) {
  const io::TensorInfo* info = file.find(name);
  if (!info) fail(ErrorKind::kCheckpoint, file.path().string(), " lacks `", name, "`: it is no round that dsft saved.");
  const io::DType expected = checkpoint::to_file_dtype(type);
  if (info->dtype != expected || info->shape.size() != 1 || (size && info->shape[0] != *size))
    fail(ErrorKind::kCheckpoint, file.path().string(), ": `", name, "` is ", io::dtype_name(info->dtype), " ",
         io::shape_text(info->shape), ", not ", io::dtype_name(expected), " [", size ? concat(*size) : "any number",
         "]: it is no round that dsft saved.");
  return checkpoint::read_tensor(file, *info);
}

at::Tensor read_flat_if_there(const io::SafetensorsFile& file, const std::string& name, int64_t size) {
  return file.find(name) ? read_flat(file, name, at::kFloat, size) : at::Tensor();
}

// Where rows of these lengths begin in `total` elements, and the last ends.
std::vector<int64_t> read_starts(const io::SafetensorsFile& file, const std::string& name, int64_t num_rows,
                                 int64_t total) {
  const at::Tensor lengths = read_flat(file, name, at::kLong, num_rows);
  std::vector<int64_t> starts = {0};
  for (int64_t row = 0; row < num_rows; ++row) {
    const int64_t length = lengths.const_data_ptr<int64_t>()[row];
    if (length < 0 || length > total - starts.back())
      fail(ErrorKind::kCheckpoint, file.path().string(), ": `", name, "` gives completion ", row, " ", length,
           " tokens, of ", total, " that all have: the file is damaged.");
    starts.push_back(starts.back() + length);
  }
  if (starts.back() != total)
    fail(ErrorKind::kCheckpoint, file.path().string(), ": `", name, "` adds up to ", starts.back(), " tokens, and ",
         total, " are there: the file is damaged.");
  return starts;
}

void require_tokens(const io::SafetensorsFile& file, const at::Tensor& ids, int64_t vocab_size) {
  const auto* begin = ids.const_data_ptr<int32_t>();
  const auto* wrong = std::find_if(begin, begin + ids.numel(), [&](int32_t id) { return id < 0 || id >= vocab_size; });
  if (wrong != begin + ids.numel())
    fail(ErrorKind::kCheckpoint, file.path().string(), " has the id ", *wrong, ", and the model has ", vocab_size,
         " tokens: the round is another model's, or the file is damaged.");
}

std::map<std::string, double> read_metrics(const io::SafetensorsFile& file) {
  std::map<std::string, double> metrics;
  for (const io::TensorInfo& info : file.tensors())
    if (info.name.starts_with(kMetrics))
      metrics[info.name.substr(kMetrics.size())] = read_flat(file, info.name, at::kDouble, 1).item<double>();
  return metrics;
}

}  // namespace

void save_round(const std::filesystem::path& folder, const RoundPlace& round, double temperature,
                const std::vector<Batch>& left, const std::map<std::string, double>& metrics,
                comm::Communicator& communicator) {
  checkpoint::NamedTensors tensors = tensors_of(left);
  for (auto& [name, tensor] : tensors) tensor = gather_flat(tensor, communicator);
  tensors.emplace_back("round", torch::tensor({round.epoch, round.number, round.num_completions}, at::kLong));
  tensors.emplace_back("temperature", torch::full({1}, temperature, at::kDouble));
  for (const auto& [name, value] : metrics)
    tensors.emplace_back(concat(kMetrics, name), torch::full({1}, value, at::kDouble));
  checkpoint::run_agreed(communicator, [&] {
    if (communicator.rank() == 0) checkpoint::write_tensors(folder / kRoundFile, tensors);
  });
}

std::optional<SavedRound> SavedRound::load(const std::filesystem::path& folder, int64_t vocab_size) {
  if (!std::filesystem::exists(folder / kRoundFile)) return std::nullopt;
  const io::SafetensorsFile file = io::SafetensorsFile::open(folder / kRoundFile);
  SavedRound saved;
  const at::Tensor round = read_flat(file, "round", at::kLong, 3);
  const auto* place = round.const_data_ptr<int64_t>();
  saved.round_ = {.epoch = place[0], .number = place[1], .num_completions = place[2]};
  saved.temperature_ = read_flat(file, "temperature", at::kDouble, 1).item<double>();
  const at::Tensor samples = read_flat(file, "samples", at::kLong);
  const int64_t num_rows = samples.numel();
  for (int64_t row = 0; row < num_rows; ++row)
    if (const int64_t sample = samples.const_data_ptr<int64_t>()[row]; !saved.rows_.emplace(sample, row).second)
      fail(ErrorKind::kCheckpoint, file.path().string(), " has completion ", sample, " twice: the file is damaged.");
  saved.ids_ = read_flat(file, "ids", at::kInt);
  require_tokens(file, saved.ids_, vocab_size);
  saved.weights_ = read_flat(file, "weights", at::kFloat);
  const int64_t num_policy_tokens = saved.weights_.numel();
  saved.starts_ = read_starts(file, "lengths", num_rows, saved.ids_.numel());
  saved.policy_starts_ = read_starts(file, "completion_lengths", num_rows, num_policy_tokens);
  for (size_t row = 0; row < static_cast<size_t>(num_rows); ++row)
    if (saved.policy_starts_[row + 1] - saved.policy_starts_[row] >= saved.starts_[row + 1] - saved.starts_[row])
      fail(ErrorKind::kCheckpoint, file.path().string(), ": completion ", row, " has no prompt: the file is damaged.");
  saved.advantages_ = read_flat(file, "advantages", at::kFloat, num_rows);
  saved.row_weights_ = read_flat(file, "row_weights", at::kFloat, num_rows);
  saved.sampling_log_probs_ = read_flat(file, "sampling_log_probs", at::kFloat, num_policy_tokens);
  saved.old_log_probs_ = read_flat_if_there(file, "old_log_probs", num_policy_tokens);
  saved.reference_log_probs_ = read_flat_if_there(file, "reference_log_probs", num_policy_tokens);
  saved.metrics_ = read_metrics(file);
  return saved;
}

Batch SavedRound::batch_of(const std::vector<int64_t>& samples) const {
  std::vector<Document> documents;
  std::vector<int64_t> rows;
  std::vector<at::Tensor> tokens;
  const auto* ids = ids_.const_data_ptr<int32_t>();
  for (const int64_t sample : samples) {
    const int64_t row = rows_.at(sample);
    const auto at = static_cast<size_t>(row);
    const std::vector<int32_t> document(ids + starts_[at], ids + starts_[at + 1]);
    documents.push_back({.ids = document, .labels = document, .sample = sample});
    const int64_t num_policy_tokens = policy_starts_[at + 1] - policy_starts_[at];
    std::fill_n(documents.back().labels.begin(), static_cast<int64_t>(document.size()) - num_policy_tokens,
                data::kIgnored);
    rows.push_back(row);
    tokens.push_back(torch::arange(policy_starts_[at], policy_starts_[at + 1]));
  }
  Batch batch = make_batch(documents, round_.epoch);
  set_policy_rows(batch, std::vector<PolicyRow>(samples.size()));
  const at::Tensor of_rows = torch::tensor(rows), of_tokens = torch::cat(tokens);
  const auto take = [](const at::Tensor& all, const at::Tensor& places) {
    return all.defined() ? all.index_select(0, places) : all;
  };
  PolicyTargets& policy = *batch.policy;
  policy.advantages = take(advantages_, of_rows);
  policy.row_weights = take(row_weights_, of_rows);
  batch.weights = take(weights_, of_tokens);
  policy.sampling_log_probs = take(sampling_log_probs_, of_tokens);
  policy.old_log_probs = take(old_log_probs_, of_tokens);
  policy.reference_log_probs = take(reference_log_probs_, of_tokens);
  return batch;
}

}  // namespace dsft::rl
