#include "generate/engine.h"

#include <algorithm>
#include <deque>
#include <numeric>
#include <optional>

#include "base/counter_random.h"
#include "base/error.h"
#include "device/device.h"

namespace dsft::generate {
namespace {

constexpr uint64_t kPurpose = hash_name("generate");

// A sequence that is being continued.
struct Sequence {
  size_t request;
  std::vector<int32_t> pages;
  bool is_done = false;
};

int64_t longest_of(const std::vector<Request>& requests) {
  int64_t longest = 0;
  for (const Request& request : requests)
    longest = std::max(longest, static_cast<int64_t>(request.prompt_ids.size()) + request.max_new_tokens);
  return longest;
}

// Page 0, and as many as the memory holds or all rows could need.
int64_t count_pages(const model::CausalLm& model, const EngineOptions& options, int64_t longest) {
  DSFT_CHECK(longest > 1 && options.max_sequences > 0, "an engine for ", options.max_sequences, " sequences of ",
             longest, " tokens");
  const int64_t in_memory = options.cache_bytes / PagedCache::page_bytes(model.spec(), model.dtype());
  return 1 + std::max(pages_for(longest), std::min(in_memory, options.max_sequences * pages_for(longest)));
}

int64_t seen_words(const model::CausalLm& model, const EngineOptions& options) {
  return options.sampling.repetition_penalty == 1.0 ? 0 : (model.spec().vocab_size + 31) / 32;
}

// Tokens of a step, and their log-probabilities where these are wanted, on their way to the host.
struct ChosenTokens {
  explicit ChosenTokens(const DecodeRows& rows) : ids(rows.ids) {
    if (rows.log_probs.defined()) log_probs.emplace(rows.log_probs);
  }
  device::HostCopy ids;
  std::optional<device::HostCopy> log_probs;
};

// Two sizes for each doubling: 1, 2, 3, 4, 6, 8, 12, 16, 24, ...
int64_t rounded_up(int64_t count) {
  int64_t size = 1;
  while (size < count) size = size % 3 == 0 ? size / 3 * 4 : size == 1 ? 2 : size / 2 * 3;
  return size;
}

}  // namespace

/// One call of Engine::generate.
class Generation {
 public:
  Generation(Engine& engine, const std::vector<Request>& requests, const OnCompletion& on_completion)
      : engine_(engine),
        options_(engine.options_),
        device_(engine.model_.device()),
        requests_(requests),
        on_completion_(on_completion),
        completions_(requests.size()) {}
  ~Generation() {
    for (const Sequence& sequence : live_) engine_.cache_.give_back(sequence.pages);
  }
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  std::vector<Completion> run() {
    while (next_request_ < requests_.size() || !live_.empty()) {
      if (should_arrange()) {
        while (!pending_.empty()) take_tokens();
        remove_done();
        admit();
        arrange();
      }
      if (live_.empty()) continue;
      enqueue_step();
      // the host looks at a step while the device does the next one
      while (pending_.size() > (device::is_asynchronous(device_) ? 1 : 0)) take_tokens();
    }
    return std::move(completions_);
  }

 private:
  int64_t num_live() const {
    return std::count_if(live_.begin(), live_.end(), [](const Sequence& sequence) { return !sequence.is_done; });
  }

  int64_t rows_for(int64_t count) const {
    return device::has_graphs(device_) ? std::min(rounded_up(count), options_.max_sequences) : count;
  }

  // Tokens whose keys and values a request needs room for: its last token is never read.
  int64_t room_for(size_t request) const {
    return static_cast<int64_t>(requests_[request].prompt_ids.size()) + requests_[request].max_new_tokens - 1;
  }

  bool fits(int64_t num_sequences, int64_t num_free_pages) const {
    return next_request_ < requests_.size() && num_sequences < options_.max_sequences &&
           pages_for(room_for(next_request_)) <= num_free_pages;
  }

  // To let requests in, a few at a time, and to leave rows out that nobody needs any more.
  bool should_arrange() const {
    const int64_t count = num_live();
    if (count == 0 || rows_for(count) < num_rows_) return true;
    int64_t num_free_pages = engine_.cache_.num_free_pages();
    for (const Sequence& sequence : live_)
      if (sequence.is_done) num_free_pages += static_cast<int64_t>(sequence.pages.size());
    const int64_t worth_it = std::max<int64_t>(1, options_.max_sequences / 16);
    return options_.max_sequences - count >= worth_it && fits(count, num_free_pages);
  }

  void remove_done() {
    for (const Sequence& sequence : live_)
      if (sequence.is_done) engine_.cache_.give_back(sequence.pages);
    std::erase_if(live_, [](const Sequence& sequence) { return sequence.is_done; });
  }

  void admit() {
    while (fits(static_cast<int64_t>(live_.size()), engine_.cache_.num_free_pages())) {
      prefill();
      remove_done();  // by its first token
    }
  }

  // Reads the next prompts that fit into free pages and one pass, and chooses their first tokens.
  void prefill() {
    std::vector<Document> documents;
    std::vector<std::vector<int32_t>> tables;
    std::vector<int64_t> last_rows;
    std::vector<RowState> states;
    const size_t first = live_.size();
    int64_t num_tokens = 0;
    while (fits(static_cast<int64_t>(live_.size()), engine_.cache_.num_free_pages())) {
      const std::vector<int32_t>& ids = requests_[next_request_].prompt_ids;
      const auto length = static_cast<int64_t>(ids.size());
      if (!documents.empty() && num_tokens + length > options_.prefill_tokens) break;
      num_tokens += length;
      last_rows.push_back(num_tokens - 1);
      documents.push_back({ids, std::vector<int32_t>(ids.size(), -100), 0});
      live_.push_back({next_request_, engine_.cache_.take_pages(pages_for(room_for(next_request_)))});
      tables.push_back(live_.back().pages);
      states.push_back(state_of(live_.back()));
      ++next_request_;
    }
    const Batch batch = make_batch(documents, /*epoch=*/0);
    engine_.cache_.begin_prefill(batch.boundaries, tables);
    const at::Tensor hidden =
        engine_.model_.hidden_states(batch.to(device_), engine_.runner_, /*training=*/nullptr, &engine_.cache_);
    const at::Tensor rows = device::copy_from_host(torch::tensor(last_rows, at::kLong), device_);
    DecodeRows entering(static_cast<int64_t>(states.size()), engine_.rows_.pages.size(1),
                        seen_words(engine_.model_, options_), options_.wants_log_probs, device_);
    entering.write(states);
    sample(entering, hidden.index_select(0, rows));
    take(ChosenTokens(entering), first);
  }

  // The rows of the coming steps: the sequences in order, and some that belong to none.
  void arrange() {
    num_rows_ = live_.empty() ? 0 : rows_for(static_cast<int64_t>(live_.size()));
    std::vector<RowState> states;
    for (const Sequence& sequence : live_) states.push_back(state_of(sequence));
    states.resize(static_cast<size_t>(num_rows_));
    if (num_rows_ > 0) engine_.rows_.write(states);
  }

  RowState state_of(const Sequence& sequence) const {
    const Request& request = requests_[sequence.request];
    const std::vector<int32_t>& answer = completions_[sequence.request].token_ids;
    const auto num_answered = static_cast<int64_t>(answer.size());
    RowState state{.last_token = answer.empty() ? 0 : answer.back(),
                   .length = static_cast<int64_t>(request.prompt_ids.size()) + std::max<int64_t>(num_answered - 1, 0),
                   .limit = room_for(sequence.request),
                   .stream = request.stream,
                   .num_draws = num_answered,
                   .pages = sequence.pages,
                   .seen = {}};
    state.seen.resize(static_cast<size_t>(seen_words(engine_.model_, options_)));
    if (state.seen.empty()) return state;
    for (const auto* tokens : {&request.prompt_ids, &answer})
      for (const int32_t token : *tokens)
        state.seen[static_cast<size_t>(token / 32)] |= static_cast<int32_t>(uint32_t{1} << (token % 32));
    return state;
  }

  void enqueue_step() {
    auto [found, is_new] = engine_.steps_.try_emplace(num_rows_, engine_.group_);
    DecodeRows rows = engine_.rows_.first(num_rows_);
    found->second.run([&] { step(rows); });
    pending_.emplace_back(rows);
  }

  void step(DecodeRows& rows) {
    const int64_t count = rows.ids.size(0);
    rows.advance();
    engine_.cache_.begin_decode({rows.pages, rows.lengths});
    Batch batch;
    batch.ids = rows.ids;
    batch.positions = (rows.lengths - 1).unsqueeze(0);
    batch.boundaries.resize(static_cast<size_t>(count) + 1);
    std::iota(batch.boundaries.begin(), batch.boundaries.end(), int64_t{0});
    sample(rows, engine_.model_.hidden_states(batch, engine_.runner_, /*training=*/nullptr, &engine_.cache_));
  }

  // Chooses the next token of each row.
  void sample(DecodeRows& rows, const at::Tensor& hidden) {
    nn::ForwardContext context;
    context.isolates_rows = true;
    context.adapters = engine_.cache_.adapters();
    const at::Tensor logits = engine_.model_.logits(hidden, engine_.runner_, context);
    rows.ids.copy_(kernels::sample_tokens(
        logits, options_.sampling, {options_.seed, kPurpose, rows.streams, rows.draws}, rows.seen, rows.log_probs));
    rows.draws.add_(1);
  }

  void take_tokens() {
    take(pending_.front(), 0);
    pending_.pop_front();
  }

  // Adds the next token to each sequence from `first` on; those that are done are marked.
  void take(const ChosenTokens& chosen, size_t first) {
    const auto* tokens = chosen.ids.wait().const_data_ptr<int64_t>();
    const auto* log_probs = chosen.log_probs ? chosen.log_probs->wait().const_data_ptr<float>() : nullptr;
    for (size_t s = first; s < live_.size(); ++s) {
      Sequence& sequence = live_[s];
      if (sequence.is_done) continue;
      Completion& completion = completions_[sequence.request];
      completion.token_ids.push_back(static_cast<int32_t>(tokens[s - first]));
      if (log_probs != nullptr) completion.log_probs.push_back(log_probs[s - first]);
      sequence.is_done = finish(sequence.request);
    }
  }

  bool finish(size_t request) {
    Completion& completion = completions_[request];
    const bool is_stopped = std::find(options_.stop_ids.begin(), options_.stop_ids.end(),
                                      completion.token_ids.back()) != options_.stop_ids.end() ||
                            (options_.ends_answer && options_.ends_answer(completion.token_ids));
    if (!is_stopped && static_cast<int64_t>(completion.token_ids.size()) < requests_[request].max_new_tokens)
      return false;
    completion.finish_reason = is_stopped ? FinishReason::kStop : FinishReason::kLength;
    if (on_completion_) on_completion_(request, completion);
    return true;
  }

  Engine& engine_;
  const EngineOptions& options_;
  const at::Device device_;
  const std::vector<Request>& requests_;
  const OnCompletion& on_completion_;
  std::vector<Completion> completions_;
  std::vector<Sequence> live_;  // row r of a step is sequence r
  int64_t num_rows_ = 0;
  std::deque<ChosenTokens> pending_;  // tokens of steps that were enqueued and not looked at
  size_t next_request_ = 0;
};

const char* to_word(FinishReason reason) {
  return reason == FinishReason::kStop ? "stop" : "length";
}

Engine::Engine(model::CausalLm& model, const nn::BlockRunner& runner, const EngineOptions& options, int64_t longest)
    : model_(model),
      runner_(runner),
      options_(options),
      longest_(longest),
      cache_(model.spec(), model.dtype(), model.device(), count_pages(model, options, longest)),
      rows_(options.max_sequences, pages_for(longest), seen_words(model, options), options.wants_log_probs,
            model.device()),
      group_(model.device()) {}

std::vector<Completion> Engine::generate(const std::vector<Request>& requests, const OnCompletion& on_completion) {
  for (const Request& request : requests)
    DSFT_CHECK(!request.prompt_ids.empty() && request.max_new_tokens > 0, "a request with ", request.prompt_ids.size(),
               " prompt tokens for ", request.max_new_tokens, " new ones");
  DSFT_CHECK(longest_of(requests) <= longest_, "a request of ", longest_of(requests), " tokens for an engine of ",
             longest_);
  const torch::NoGradGuard no_grad;
  cache_.adapters()->renew();
  return Generation(*this, requests, on_completion).run();
}

std::vector<Completion> generate(model::CausalLm& model, const nn::BlockRunner& runner,
                                 const std::vector<Request>& requests, const EngineOptions& options,
                                 const OnCompletion& on_completion) {
  if (requests.empty()) return {};
  EngineOptions own = options;
  own.max_sequences = std::min(options.max_sequences, static_cast<int64_t>(requests.size()));
  return Engine(model, runner, own, longest_of(requests)).generate(requests, on_completion);
}

}  // namespace dsft::generate
