#include <algorithm>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/nearest_name.h"
#include "data/row_file.h"
#include "data/row_prompt.h"
#include "dsft-trainer/loaded_text.h"
#include "dsft-trainer/tasks.h"
#include "generate/engine.h"
#include "io/json.h"
#include "io/replaced_file.h"

namespace dsft::apps {
namespace {

using Json = nlohmann::ordered_json;

/// A list of messages, or {messages, tools}, as a row.
Json read_conversation(const std::string& file) {
  Json row = io::read_ordered_json_file(file, ErrorKind::kData);
  if (row.is_array()) row = Json{{"messages", std::move(row)}};
  if (!row.is_object() || !row.contains("messages"))
    fail(ErrorKind::kData, file,
         " must hold a list of messages, or an object {\"messages\": [...], \"tools\": [...]}.");
  return row;
}

std::vector<std::vector<int32_t>> read_prompts(const GenerateOptions& options, const data::TextAssets& assets) {
  const data::PromptBuilder builder(assets, Json::object());
  if (options.prompt) return {builder.encode_text(*options.prompt)};
  if (!options.messages.empty()) {
    try {
      return {builder.build_next(read_conversation(options.messages)).ids};
    } catch (Error& error) {
      throw error.add_context("in " + options.messages);
    }
  }
  std::vector<std::vector<int32_t>> prompts;
  data::RowFile file = data::RowFile::open(options.input);
  data::RawRow row;
  while (file.next(row)) {
    try {
      prompts.push_back(builder.build_next(file.parse(row)).ids);
    } catch (Error& error) {
      throw error.add_context("in " + file.describe(row));
    }
  }
  if (prompts.empty()) fail(ErrorKind::kData, options.input, " has no row.");
  return prompts;
}

/// What was written on the command line, else the checkpoint's generation_config.json.
generate::SamplingOptions choose_sampling(const GenerateOptions& options, const spec::GenerationDefaults& defaults) {
  generate::SamplingOptions sampling = generate::sampling_of(defaults);
  if (options.temperature)
    sampling.temperature = *options.temperature;
  else if ((options.top_k || options.top_p) && sampling.temperature == 0)
    sampling.temperature = defaults.temperature.value_or(1.0);
  if (options.top_k) sampling.top_k = *options.top_k;
  if (options.top_p) sampling.top_p = *options.top_p;
  return sampling;
}

void warn_about(const LoadedText& loaded, const std::vector<generate::Request>& requests, const Logger& logger) {
  if (!loaded.generation.ignored_keys.empty())
    logger.warn("generation_config.json sets ", join_words(loaded.generation.ignored_keys),
                ", which dsft does not follow: transformers would generate other text.");
  int64_t longest = 0;
  for (const generate::Request& request : requests)
    longest = std::max(longest, static_cast<int64_t>(request.prompt_ids.size()) + request.max_new_tokens);
  const int64_t known = loaded.model->spec().max_position_embeddings;
  if (known > 0 && longest > known)
    logger.warn("a prompt and its answer may reach ", longest, " tokens, but the model knows ", known,
                " positions (max_position_embeddings).");
}

/// Hands results out in the order of the prompts, whatever order they are finished in.
class ResultWriter {
 public:
  ResultWriter(const GenerateOptions& options, const text::Tokenizer& tokenizer,
               const std::vector<generate::Request>& requests)
      : options_(options), tokenizer_(tokenizer), requests_(requests) {
    if (!options.output.empty()) file_.emplace(options.output);
  }

  void add(size_t request, const generate::Completion& completion) {
    waiting_.emplace(request, completion);
    for (auto next = waiting_.find(num_written_); next != waiting_.end(); next = waiting_.find(num_written_)) {
      write(next->second);
      waiting_.erase(next);
      ++num_written_;
    }
  }

  void finish() {
    if (file_) file_->commit();
    if (options_.is_json) std::cout << results_.dump() << '\n';
  }

 private:
  void write(const generate::Completion& completion) {
    const std::string text = tokenizer_.decode(completion.token_ids, /*skip_special_tokens=*/true);
    if (file_ || options_.is_json) {
      Json result{{"prompt_token_ids", requests_[num_written_].prompt_ids},
                  {"token_ids", completion.token_ids},
                  {"text", text},
                  {"finish_reason", generate::to_word(completion.finish_reason)}};
      if (file_) file_->write(result.dump() + "\n");
      if (options_.is_json) results_.push_back(std::move(result));
    }
    if (file_ || options_.is_json) return;
    if (requests_.size() > 1) std::cout << "--- " << num_written_ + 1 << " of " << requests_.size() << '\n';
    std::cout << text << std::endl;
  }

  const GenerateOptions& options_;
  const text::Tokenizer& tokenizer_;
  const std::vector<generate::Request>& requests_;
  std::optional<io::ReplacedFile> file_;
  std::map<size_t, generate::Completion> waiting_;
  size_t num_written_ = 0;
  Json results_ = Json::array();
};

}  // namespace

int run_generate(const GenerateOptions& options, const Logger& logger) {
  const LoadedText loaded = load_text_model(options.model, options.adapter, options.compute, logger);
  std::vector<generate::Request> requests;
  for (std::vector<int32_t>& ids : read_prompts(options, loaded.assets))
    requests.push_back({std::move(ids), options.max_new_tokens, requests.size()});
  warn_about(loaded, requests, logger);
  generate::EngineOptions engine;
  engine.sampling = choose_sampling(options, loaded.generation);
  engine.stop_ids = loaded.generation.eos_token_ids.empty() ? loaded.assets.stop_ids : loaded.generation.eos_token_ids;
  engine.seed = static_cast<uint64_t>(options.seed);
  ResultWriter writer(options, loaded.assets.tokenizer, requests);
  generate::generate(*loaded.model, nn::BlockRunner(), requests, engine,
                     [&](size_t request, const auto& completion) { writer.add(request, completion); });
  writer.finish();
  return 0;
}

}  // namespace dsft::apps
