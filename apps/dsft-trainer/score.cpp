#include <torch/types.h>

#include <charconv>
#include <cmath>

#include "batch/batch.h"
#include "data/row_file.h"
#include "dsft-trainer/loaded_text.h"
#include "dsft-trainer/tasks.h"
#include "io/replaced_file.h"
#include "loss/token_log_probs.h"

namespace dsft::apps {
namespace {

constexpr int64_t kTokensPerBatch = 4096;

/// A row that waits for its batch.
struct ScoredRow {
  data::Example example;
  std::string where;
};

void append_number(std::string& line, auto value) {
  char digits[32];
  line.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

void append_list(std::string& line, const std::vector<int32_t>& values) {
  line += '[';
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) line += ',';
    append_number(line, values[i]);
  }
  line += ']';
}

/// One line of the output; `log_probs` are those of the tokens after the first.
std::string format_row(const ScoredRow& row, std::span<const float> log_probs) {
  std::string line = "{\"token_ids\":";
  append_list(line, row.example.ids);
  line += ",\"log_probs\":[null";
  for (const float value : log_probs) {
    if (!std::isfinite(value))
      fail(ErrorKind::kData, row.where,
           ": the model gives a log-probability that is not finite; its weights are damaged, or --dtype fp16 overflows "
           "(try bf16 or fp32).");
    line += ',';
    append_number(line, value);
  }
  line += "],\"labels\":";
  append_list(line, row.example.labels);
  return line + "}\n";
}

/// Scores rows laid end to end in one forward pass.
void score_rows(model::CausalLm& model, const std::vector<ScoredRow>& rows, io::ReplacedFile& output) {
  std::vector<Document> documents;
  std::vector<int64_t> predicting;  // each token of a document but its last predicts the next
  int64_t begin = 0;
  for (const ScoredRow& row : rows) {
    documents.push_back({row.example.ids, row.example.labels, 0});
    const auto length = static_cast<int64_t>(row.example.ids.size());
    for (int64_t i = 0; i + 1 < length; ++i) predicting.push_back(begin + i);
    begin += length;
  }
  const Batch batch = make_batch(documents, /*epoch=*/0).to(model.device());
  std::vector<float> log_probs;
  if (!predicting.empty()) {
    const nn::BlockRunner runner;
    const at::Tensor positions = torch::tensor(predicting, at::kLong).to(model.device());
    const at::Tensor hidden = model.hidden_states(batch, runner, /*training=*/nullptr);
    const auto result =
        loss::token_log_probs(model, hidden, positions, batch.ids.index_select(0, positions + 1), runner);
    const at::Tensor host = result.log_probs.to(at::kCPU, at::kFloat).contiguous();
    log_probs.assign(host.const_data_ptr<float>(), host.const_data_ptr<float>() + host.numel());
  }
  std::span<const float> left(log_probs);
  for (const ScoredRow& row : rows) {
    output.write(format_row(row, left.first(row.example.ids.size() - 1)));
    left = left.subspan(row.example.ids.size() - 1);
  }
}

}  // namespace

int run_score(const ScoreOptions& options, const Logger& logger) {
  const LoadedText loaded = load_text_model(options.model, options.adapter, options.compute, logger);
  data::ExampleBuilder builder(loaded.assets, data::LossOn::kAuto, nlohmann::ordered_json::object());
  data::RowFile file = data::RowFile::open(options.input);
  io::ReplacedFile output(options.output);
  const torch::NoGradGuard no_grad;
  std::vector<ScoredRow> rows;
  int64_t num_tokens = 0, num_rows = 0;
  const auto flush = [&] {
    if (!rows.empty()) score_rows(*loaded.model, rows, output);
    rows.clear();
    num_tokens = 0;
  };
  data::RawRow raw;
  while (file.next(raw)) {
    ScoredRow row{.example = {}, .where = data::name_row(options.input, raw.number)};
    try {
      row.example = builder.build(file.parse(raw));
      if (row.example.ids.empty()) fail(ErrorKind::kData, "the row has no token.");
    } catch (Error& error) {
      throw error.add_context("in " + row.where);
    }
    const auto length = static_cast<int64_t>(row.example.ids.size());
    if (num_tokens + length > kTokensPerBatch) flush();
    num_tokens += length;
    rows.push_back(std::move(row));
    ++num_rows;
  }
  flush();
  output.commit();
  logger.info(num_rows, " rows scored: ", options.output);
  return 0;
}

}  // namespace dsft::apps
