#include "generate/engine.h"

#include <algorithm>
#include <numeric>

#include "base/counter_random.h"
#include "base/error.h"
#include "generate/slot_cache.h"

namespace dsft::generate {
namespace {

// A sequence that is being continued.
struct Sequence {
  size_t request;
  int64_t slot;
  std::vector<int32_t> history;  // prompt and answer
};

int64_t longest_sequence(const std::vector<Request>& requests) {
  int64_t longest = 0;
  for (const Request& request : requests)
    longest = std::max(longest, static_cast<int64_t>(request.prompt_ids.size()) + request.max_new_tokens);
  return longest;
}

int64_t count_slots(const model::CausalLm& model, const std::vector<Request>& requests, const EngineOptions& options) {
  const int64_t bytes = longest_sequence(requests) * SlotCache::bytes_per_token(model.spec(), model.dtype());
  const int64_t most = std::min(options.max_sequences, static_cast<int64_t>(requests.size()));
  return std::clamp<int64_t>(options.cache_bytes / std::max<int64_t>(bytes, 1), 1, std::max<int64_t>(most, 1));
}

// One token for each sequence, at the position that its cache has reached.
Batch decoding_batch(const std::vector<Sequence>& sequences, const SlotCache& cache) {
  const auto count = static_cast<int64_t>(sequences.size());
  Batch batch;
  batch.ids = at::empty({count}, at::kLong);
  batch.positions = at::empty({1, count}, at::kLong);
  batch.labels = at::full({count}, -100, at::kLong);
  batch.supervised = at::empty({0}, at::kLong);
  batch.samples = at::zeros({count}, at::kLong);
  for (int64_t s = 0; s < count; ++s) {
    batch.ids.data_ptr<int64_t>()[s] = sequences[s].history.back();
    batch.positions.data_ptr<int64_t>()[s] = cache.length(sequences[s].slot) - 1;
  }
  batch.boundaries.resize(count + 1);
  std::iota(batch.boundaries.begin(), batch.boundaries.end(), int64_t{0});
  return batch;
}

class Decoder {
 public:
  Decoder(model::CausalLm& model, const nn::BlockRunner& runner, const std::vector<Request>& requests,
          const EngineOptions& options, const OnCompletion& on_completion)
      : model_(model),
        runner_(runner),
        requests_(requests),
        options_(options),
        on_completion_(on_completion),
        completions_(requests.size()),
        free_slots_(count_slots(model, requests, options)),
        cache_(model.spec(), model.dtype(), model.device(), static_cast<int64_t>(free_slots_.size()),
               longest_sequence(requests)) {
    std::iota(free_slots_.rbegin(), free_slots_.rend(), int64_t{0});
  }

  std::vector<Completion> run() {
    while (next_request_ < requests_.size() || !live_.empty()) {
      while (next_request_ < requests_.size() && !free_slots_.empty()) prefill();
      if (!live_.empty()) decode();
    }
    return std::move(completions_);
  }

 private:
  // Reads the next prompts that fit into free slots and one pass, and chooses their first tokens.
  void prefill() {
    std::vector<Sequence> entering;
    std::vector<Document> documents;
    std::vector<int64_t> slots, last_rows;
    int64_t num_tokens = 0;
    while (next_request_ < requests_.size() && !free_slots_.empty()) {
      const std::vector<int32_t>& ids = requests_[next_request_].prompt_ids;
      const auto length = static_cast<int64_t>(ids.size());
      if (!documents.empty() && num_tokens + length > options_.prefill_tokens) break;
      num_tokens += length;
      last_rows.push_back(num_tokens - 1);
      slots.push_back(free_slots_.back());
      free_slots_.pop_back();
      documents.push_back({ids, std::vector<int32_t>(ids.size(), -100), 0});
      entering.push_back({next_request_++, slots.back(), ids});
    }
    const Batch batch = make_batch(documents, /*epoch=*/0);
    cache_.begin_prefill(slots, batch.boundaries);
    const at::Tensor hidden = model_.hidden_states(batch.to(model_.device()), runner_, /*training=*/nullptr, &cache_);
    const at::Tensor rows = hidden.index_select(0, torch::tensor(last_rows, at::kLong).to(hidden.device()));
    advance(entering, rows);
    std::move(entering.begin(), entering.end(), std::back_inserter(live_));
  }

  void decode() {
    std::vector<int64_t> slots;
    for (const Sequence& sequence : live_) slots.push_back(sequence.slot);
    cache_.begin_decode(slots);
    const Batch batch = decoding_batch(live_, cache_);
    advance(live_, model_.hidden_states(batch.to(model_.device()), runner_, /*training=*/nullptr, &cache_));
  }

  // Adds the next token to each sequence; those that are done leave.
  void advance(std::vector<Sequence>& sequences, const at::Tensor& rows) {
    std::vector<std::span<const int32_t>> histories;
    std::vector<double> uniforms;
    for (const Sequence& sequence : sequences) {
      histories.emplace_back(sequence.history);
      const CounterStream stream(options_.seed, hash_name("generate"), requests_[sequence.request].stream);
      uniforms.push_back(stream.uniform(completions_[sequence.request].token_ids.size()));
    }
    const std::vector<int32_t> tokens =
        choose_tokens(model_.logits(rows, runner_), histories, uniforms, options_.sampling);
    for (size_t s = 0; s < sequences.size(); ++s) {
      sequences[s].history.push_back(tokens[s]);
      completions_[sequences[s].request].token_ids.push_back(tokens[s]);
    }
    std::erase_if(sequences, [this](const Sequence& sequence) { return finish(sequence); });
  }

  bool finish(const Sequence& sequence) {
    Completion& completion = completions_[sequence.request];
    const bool is_stopped = std::find(options_.stop_ids.begin(), options_.stop_ids.end(),
                                      completion.token_ids.back()) != options_.stop_ids.end();
    if (!is_stopped && static_cast<int64_t>(completion.token_ids.size()) < requests_[sequence.request].max_new_tokens)
      return false;
    completion.finish_reason = is_stopped ? FinishReason::kStop : FinishReason::kLength;
    free_slots_.push_back(sequence.slot);
    if (on_completion_) on_completion_(sequence.request, completion);
    return true;
  }

  model::CausalLm& model_;
  const nn::BlockRunner& runner_;
  const std::vector<Request>& requests_;
  const EngineOptions& options_;
  const OnCompletion& on_completion_;
  std::vector<Completion> completions_;
  std::vector<int64_t> free_slots_;
  SlotCache cache_;
  std::vector<Sequence> live_;
  size_t next_request_ = 0;
};

}  // namespace

const char* to_word(FinishReason reason) {
  return reason == FinishReason::kStop ? "stop" : "length";
}

std::vector<Completion> generate(model::CausalLm& model, const nn::BlockRunner& runner,
                                 const std::vector<Request>& requests, const EngineOptions& options,
                                 const OnCompletion& on_completion) {
  if (requests.empty()) return {};
  for (const Request& request : requests) {
    DSFT_CHECK(!request.prompt_ids.empty() && request.max_new_tokens > 0, "a request with ", request.prompt_ids.size(),
               " prompt tokens for ", request.max_new_tokens, " new ones");
  }
  const torch::NoGradGuard no_grad;
  return Decoder(model, runner, requests, options, on_completion).run();
}

}  // namespace dsft::generate
