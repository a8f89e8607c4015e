#include "generate/generation.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/counter_random.h"
#include "base/error.h"
#include "base/stopwatch.h"
#include "kernels/token_log_probs_rows.h"

namespace dsft::generate {
namespace {

constexpr uint64_t kPurpose = hash_name("generate");
constexpr int64_t kStepsAhead = 16;  // for which pages are taken at a time

// Two sizes for each doubling: 1, 2, 3, 4, 6, 8, 12, 16, 24, ...
int64_t rounded_up(int64_t count) {
  int64_t size = 1;
  while (size < count) size = size % 3 == 0 ? size / 3 * 4 : size == 1 ? 2 : size / 2 * 3;
  return size;
}

}  // namespace

Generation::ChosenTokens::ChosenTokens(const DecodeRows& rows) : ids(rows.ids) {
  if (rows.log_probs.defined()) log_probs.emplace(rows.log_probs);
}

Generation::Generation(Engine& engine, const std::vector<Request>& requests, const OnCompletion& on_completion)
    : engine_(engine),
      options_(engine.options_),
      device_(engine.model_.device()),
      requests_(requests),
      on_completion_(on_completion),
      is_ample_(engine.num_pages_ > options_.max_sequences * kernels::pages_for(engine.longest_)),
      completions_(requests.size()),
      waiting_(requests.size()) {
  std::iota(waiting_.begin(), waiting_.end(), size_t{0});
}

Generation::~Generation() {
  for (const Sequence& sequence : live_) engine_.cache_.give_back(sequence.pages);
  forget_prompt();
}

std::vector<Completion> Generation::run() {
  while (!waiting_.empty() || !live_.empty()) {
    if (options_.must_stop && options_.must_stop()) break;
    if (should_arrange() || !grow()) {
      while (!pending_.empty()) take_tokens();
      remove_done();
      secure_pages();
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

int64_t Generation::num_live() const {
  return std::count_if(live_.begin(), live_.end(), [](const Sequence& sequence) { return !sequence.is_done; });
}

int64_t Generation::rows_for(int64_t count) const {
  return device::has_graphs(device_) ? std::min(rounded_up(count), options_.max_sequences) : count;
}

// Tokens whose keys and values a request needs room for: its last token is never read.
int64_t Generation::room_for(size_t request) const {
  return prompt_length(request) + requests_[request].max_new_tokens - 1;
}

// Tokens whose keys and values are in the cache, or have to come there again, when no step is under way.
int64_t Generation::num_cached(size_t request) const {
  return prompt_length(request) +
         std::max<int64_t>(static_cast<int64_t>(completions_[request].token_ids.size()) - 1, 0);
}

// Tokens that a request needs pages for when it is let in.
int64_t Generation::num_planned(size_t request) const {
  return is_ample_ ? room_for(request) : std::min(room_for(request), num_cached(request) + kStepsAhead);
}

// Tokens that a sequence may write.
int64_t Generation::limit_of(const Sequence& sequence) const {
  return std::min(room_for(sequence.request), static_cast<int64_t>(sequence.pages.size()) * kernels::kPageTokens);
}

bool Generation::shares(size_t request, const std::optional<ReadPrompt>& prompt) const {
  return prompt && completions_[request].token_ids.empty() && *prompt->ids == requests_[request].prompt_ids;
}

// Whether the next request in line can be let in, beside `num_sequences` others.
bool Generation::fits(int64_t num_sequences, int64_t num_free_pages, const std::optional<ReadPrompt>& prompt) const {
  if (waiting_.empty() || num_sequences >= options_.max_sequences) return false;
  const size_t request = waiting_.front();
  const int64_t num_shared = shares(request, prompt) ? prompt_length(request) / kernels::kPageTokens : 0;
  const int64_t left_to_others = is_ample_ ? 0 : num_sequences;
  return kernels::pages_for(num_planned(request)) - num_shared + left_to_others <= num_free_pages;
}

// To let requests in, a few at a time, and to leave rows out that nobody needs any more.
bool Generation::should_arrange() const {
  const int64_t count = num_live();
  if (count == 0 || rows_for(count) < num_rows_) return true;
  int64_t num_free_pages = engine_.cache_.num_free_pages();
  for (const Sequence& sequence : live_)
    if (sequence.is_done) num_free_pages += engine_.cache_.num_held_once(sequence.pages);
  const int64_t worth_it = std::max<int64_t>(1, options_.max_sequences / 16);
  return options_.max_sequences - count >= worth_it && fits(count, num_free_pages, kept_);
}

void Generation::remove_done() {
  for (const Sequence& sequence : live_)
    if (sequence.is_done) engine_.cache_.give_back(sequence.pages);
  std::erase_if(live_, [](const Sequence& sequence) { return sequence.is_done; });
}

// Pages that a sequence lacks for the coming steps, behind those that are under way.
int64_t Generation::num_missing(const Sequence& sequence) const {
  if (sequence.is_done) return 0;
  const int64_t num_tokens = std::min(
      room_for(sequence.request), num_cached(sequence.request) + static_cast<int64_t>(pending_.size()) + kStepsAhead);
  return std::max<int64_t>(0, kernels::pages_for(num_tokens) - static_cast<int64_t>(sequence.pages.size()));
}

int64_t Generation::num_missing() const {
  return std::accumulate(live_.begin(), live_.end(), int64_t{0},
                         [this](int64_t sum, const Sequence& sequence) { return sum + num_missing(sequence); });
}

void Generation::extend() {
  for (Sequence& sequence : live_) {
    const std::vector<int32_t> pages = engine_.cache_.take_pages(num_missing(sequence));
    sequence.pages.insert(sequence.pages.end(), pages.begin(), pages.end());
  }
}

// Gives the sequences pages for further steps where they have none any more; false where there are too few.
bool Generation::grow() {
  if (is_ample_ || num_steps_ahead_ > 0) return true;
  const int64_t missing = num_missing();
  if (missing > engine_.cache_.num_free_pages()) return false;
  num_steps_ahead_ = kStepsAhead;
  if (missing == 0) return true;
  extend();
  std::vector<RowState> states;
  for (const Sequence& sequence : live_) {
    states.emplace_back();
    states.back().limit = limit_of(sequence);
    states.back().pages = sequence.pages;
  }
  engine_.rows_.write_pages(states);
  return true;
}

// The same where no step is under way, at the expense of the sequences that came last.
void Generation::secure_pages() {
  if (is_ample_) return;
  while (num_missing() > engine_.cache_.num_free_pages()) {
    if (kept_)
      forget_prompt();
    else
      put_off_last();
  }
  extend();
}

void Generation::put_off_last() {
  DSFT_CHECK(live_.size() > 1, "pages for ", engine_.longest_, " tokens do not hold one sequence");
  engine_.cache_.give_back(live_.back().pages);
  waiting_.push_front(live_.back().request);
  live_.pop_back();
  ++engine_.counts_.num_put_off;
}

void Generation::admit() {
  const auto has_room = [this] {
    return fits(static_cast<int64_t>(live_.size()), engine_.cache_.num_free_pages(), kept_);
  };
  // alone, the next request has all pages
  if (live_.empty() && kept_ && !has_room()) forget_prompt();
  while (has_room()) {
    prefill();
    remove_done();  // by its first token
  }
}

// Lets the next request in line in.
void Generation::add_next(Prefill& prefill) {
  const size_t request = waiting_.front();
  const std::vector<int32_t>& prompt = requests_[request].prompt_ids;
  const std::vector<int32_t>& answer = completions_[request].token_ids;
  const int64_t num_pages = kernels::pages_for(num_planned(request));
  waiting_.pop_front();
  Sequence sequence{request, {}};
  if (shares(request, prefill.last)) {
    const auto num_full = static_cast<int64_t>(prompt.size()) / kernels::kPageTokens;
    sequence.pages.assign(prefill.last->pages.begin(), prefill.last->pages.begin() + num_full);
    engine_.cache_.share(sequence.pages);
    const std::vector<int32_t> own = engine_.cache_.take_pages(num_pages - num_full);
    sequence.pages.insert(sequence.pages.end(), own.begin(), own.end());
    if (static_cast<int64_t>(prompt.size()) % kernels::kPageTokens != 0) {
      prefill.copied_pages.push_back(prefill.last->pages[static_cast<size_t>(num_full)]);
      prefill.copies.push_back(own[0]);
    }
  } else {
    sequence.pages = engine_.cache_.take_pages(num_pages);
    std::vector<int32_t> ids = prompt;
    if (!answer.empty()) ids.insert(ids.end(), answer.begin(), answer.end() - 1);
    prefill.num_tokens += static_cast<int64_t>(ids.size());
    prefill.sequences.push_back(
        {static_cast<int64_t>(ids.size()), static_cast<int64_t>(prompt.size()), sequence.pages});
    prefill.documents.push_back({ids, std::vector<int32_t>(ids.size(), -100), 0});
    if (answer.empty()) prefill.last = ReadPrompt{&prompt, sequence.pages, prefill.num_tokens - 1 + (kept_ ? 1 : 0)};
  }
  if (answer.empty()) {
    prefill.members.push_back(live_.size());
    prefill.rows.push_back(prefill.last->row);
  }
  live_.push_back(std::move(sequence));
}

// Reads the next prompts that fit into free pages and one pass, and chooses the first tokens of those that have none.
void Generation::prefill() {
  Prefill prefill;
  prefill.last = kept_;
  while (fits(static_cast<int64_t>(live_.size()), engine_.cache_.num_free_pages(), prefill.last)) {
    const size_t request = waiting_.front();
    if (!shares(request, prefill.last) && !prefill.documents.empty() &&
        prefill.num_tokens + num_cached(request) > options_.prefill_tokens)
      break;
    add_next(prefill);
  }
  const at::Tensor hidden = hidden_states_of(prefill);
  engine_.cache_.copy_pages(prefill.copied_pages, prefill.copies);
  keep_prompt(prefill, hidden);
  if (prefill.members.empty()) return;
  std::vector<RowState> states;
  for (const size_t member : prefill.members) states.push_back(state_of(live_[member]));
  DecodeRows entering(static_cast<int64_t>(states.size()), engine_.rows_.pages.size(1), engine_.num_seen_words_,
                      options_.wants_log_probs, device_);
  entering.write(states);
  const at::Tensor rows = device::copy_from_host(torch::tensor(prefill.rows, at::kLong), device_);
  sample(entering, hidden.index_select(0, rows));
  take(ChosenTokens(entering), prefill.members);
}

// Of all tokens that the pass reads, behind that of the kept prompt where there is one.
at::Tensor Generation::hidden_states_of(const Prefill& prefill) {
  if (prefill.documents.empty()) return kept_hidden_;
  engine_.counts_.num_read_tokens += prefill.num_tokens;
  const Batch batch = make_batch(prefill.documents, /*epoch=*/0);
  engine_.cache_.begin_prefill(prefill.sequences);
  const at::Tensor hidden =
      engine_.model_.hidden_states(batch.to(device_), engine_.runner_, /*training=*/nullptr, &engine_.cache_);
  return kept_ ? torch::cat({kept_hidden_, hidden}) : hidden;
}

// Keeps the prompt that was read last where the next request has it too.
void Generation::keep_prompt(const Prefill& prefill, const at::Tensor& hidden) {
  if (waiting_.empty() || !shares(waiting_.front(), prefill.last)) return forget_prompt();
  if (kept_ && prefill.last->row == kept_->row) return;
  ReadPrompt prompt = *prefill.last;
  prompt.pages.resize(static_cast<size_t>(kernels::pages_for(static_cast<int64_t>(prompt.ids->size()))));
  engine_.cache_.share(prompt.pages);
  const at::Tensor last_hidden = hidden.narrow(0, prompt.row, 1).clone();
  forget_prompt();
  prompt.row = 0;
  kept_ = std::move(prompt);
  kept_hidden_ = last_hidden;
}

void Generation::forget_prompt() {
  if (kept_) engine_.cache_.give_back(kept_->pages);
  kept_.reset();
  kept_hidden_.reset();
}

// The rows of the coming steps: the sequences in order, and some that belong to none.
void Generation::arrange() {
  num_rows_ = live_.empty() ? 0 : rows_for(static_cast<int64_t>(live_.size()));
  num_steps_ahead_ = kStepsAhead;
  members_.resize(live_.size());
  std::iota(members_.begin(), members_.end(), size_t{0});
  std::vector<RowState> states;
  for (const Sequence& sequence : live_) states.push_back(state_of(sequence));
  states.resize(static_cast<size_t>(num_rows_));
  if (num_rows_ > 0) engine_.rows_.write(states);
}

RowState Generation::state_of(const Sequence& sequence) const {
  const Request& request = requests_[sequence.request];
  const std::vector<int32_t>& answer = completions_[sequence.request].token_ids;
  RowState state{.last_token = answer.empty() ? 0 : answer.back(),
                 .length = num_cached(sequence.request),
                 .limit = limit_of(sequence),
                 .stream = request.stream,
                 .num_draws = static_cast<int64_t>(answer.size()),
                 .pages = sequence.pages,
                 .seen = {}};
  state.seen.resize(static_cast<size_t>(engine_.num_seen_words_));
  if (state.seen.empty()) return state;
  for (const auto* tokens : {&request.prompt_ids, &answer})
    for (const int32_t token : *tokens)
      state.seen[static_cast<size_t>(token / 32)] |= static_cast<int32_t>(uint32_t{1} << (token % 32));
  return state;
}

void Generation::enqueue_step() {
  const Stopwatch watch;
  auto [found, is_new] = engine_.steps_.try_emplace(num_rows_, *engine_.group_);
  DecodeRows rows = engine_.rows_.first(num_rows_);
  found->second.run([&] { step(rows); });
  pending_.emplace_back(rows);
  --num_steps_ahead_;
  ++engine_.counts_.num_steps;
  engine_.counts_.host_seconds += watch.seconds();
}

void Generation::step(DecodeRows& rows) {
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
void Generation::sample(DecodeRows& rows, const at::Tensor& hidden) {
  nn::ForwardContext context;
  context.isolates_rows = engine_.cache_.isolates_rows();
  context.adapters = engine_.cache_.adapters();
  at::Tensor logits = engine_.model_.logits(hidden, engine_.runner_, context);
  rows.ids.copy_(kernels::sample_tokens(logits, options_.sampling, {options_.seed, kPurpose, rows.streams, rows.draws},
                                        rows.seen, context.isolates_rows ? at::Tensor() : rows.log_probs));
  if (rows.log_probs.defined() && context.isolates_rows) {  // in a loss's order of sums
    const double temperature = options_.sampling.temperature;
    const kernels::PolicyRows policy{.temperature = temperature > 0 ? temperature : 1.0, .wants_entropies = true};
    rows.log_probs.copy_(
        kernels::token_log_probs_rows(logits, rows.ids, /*makes_gradient=*/false, {}, policy).log_probs);
  }
  rows.draws.add_(1);
}

void Generation::take_tokens() {
  take(pending_.front(), members_);
  pending_.pop_front();
}

// Adds the next token to each of these sequences; those that are done are marked.
void Generation::take(const ChosenTokens& chosen, const std::vector<size_t>& members) {
  const auto* tokens = chosen.ids.wait().const_data_ptr<int64_t>();
  const auto* log_probs = chosen.log_probs ? chosen.log_probs->wait().const_data_ptr<float>() : nullptr;
  const Stopwatch watch;
  for (size_t row = 0; row < members.size(); ++row) {
    Sequence& sequence = live_[members[row]];
    if (sequence.is_done) continue;
    Completion& completion = completions_[sequence.request];
    completion.token_ids.push_back(static_cast<int32_t>(tokens[row]));
    if (log_probs != nullptr) completion.log_probs.push_back(log_probs[row]);
    sequence.is_done = finish(sequence.request);
  }
  engine_.counts_.host_seconds += watch.seconds();
}

bool Generation::finish(size_t request) {
  Completion& completion = completions_[request];
  const bool is_stopped = std::find(options_.stop_ids.begin(), options_.stop_ids.end(), completion.token_ids.back()) !=
                              options_.stop_ids.end() ||
                          (options_.ends_answer && options_.ends_answer(completion.token_ids));
  if (!is_stopped && static_cast<int64_t>(completion.token_ids.size()) < requests_[request].max_new_tokens)
    return false;
  completion.finish_reason = is_stopped ? FinishReason::kStop : FinishReason::kLength;
  if (on_completion_) on_completion_(request, completion);
  return true;
}

}  // namespace dsft::generate
