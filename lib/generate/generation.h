#pragma once

#include <deque>
#include <optional>
#include <vector>

#include "device/device.h"
#include "generate/engine.h"

namespace dsft::generate {

/// One call of Engine::generate.
class Generation {
 public:
  Generation(Engine& engine, const std::vector<Request>& requests, const OnCompletion& on_completion);
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  std::vector<Completion> run();

 private:
  // A request that is being continued.
  struct Sequence {
    size_t request;
    std::vector<int32_t> pages;
    bool is_done = false;
  };

  // A prompt in the cache that requests to come may have too.
  struct ReadPrompt {
    const std::vector<int32_t>* ids;
    std::vector<int32_t> pages;
    int64_t row;  // of its last token among the hidden states of the pass
  };

  // Tokens of a step, and their log-probabilities where these are wanted, on their way to the host.
  struct ChosenTokens {
    explicit ChosenTokens(const DecodeRows& rows);
    device::HostCopy ids;
    std::optional<device::HostCopy> log_probs;
  };

  // What a pass over prompts reads, and whose first tokens come out of it.
  struct Prefill {
    std::vector<Document> documents;
    std::vector<kernels::PrefilledSequence> sequences;
    int64_t num_tokens = 0;
    std::vector<size_t> members;  // sequences that get their first token, by the hidden states in
    std::vector<int64_t> rows;
    std::vector<int64_t> copied_pages, copies;
    std::optional<ReadPrompt> last;  // prompt
  };

  int64_t num_live() const;
  int64_t rows_for(int64_t count) const;
  int64_t prompt_length(size_t request) const { return static_cast<int64_t>(requests_[request].prompt_ids.size()); }
  int64_t room_for(size_t request) const;
  int64_t num_cached(size_t request) const;
  int64_t num_planned(size_t request) const;
  int64_t limit_of(const Sequence& sequence) const;
  bool shares(size_t request, const std::optional<ReadPrompt>& prompt) const;
  bool fits(int64_t num_sequences, int64_t num_free_pages, const std::optional<ReadPrompt>& prompt) const;

  bool should_arrange() const;
  void remove_done();
  int64_t num_missing(const Sequence& sequence) const;
  int64_t num_missing() const;
  void extend();
  bool grow();
  void secure_pages();
  void put_off_last();
  void admit();
  void add_next(Prefill& prefill);
  void prefill();
  at::Tensor hidden_states_of(const Prefill& prefill);
  void keep_prompt(const Prefill& prefill, const at::Tensor& hidden);
  void forget_prompt();
  void arrange();
  RowState state_of(const Sequence& sequence) const;
  void enqueue_step();
  void step(DecodeRows& rows);
  void sample(DecodeRows& rows, const at::Tensor& hidden);
  void take_tokens();
  void take(const ChosenTokens& chosen, const std::vector<size_t>& members);
  bool finish(size_t request);

  Engine& engine_;
  const EngineOptions& options_;
  const at::Device device_;
  const std::vector<Request>& requests_;
  const OnCompletion& on_completion_;
  const bool is_ample_;  // every row can have the pages of its longest answer
  std::vector<Completion> completions_;
  std::deque<size_t> waiting_;   // requests
  std::vector<Sequence> live_;   // row r of a step is sequence r; in the order in which they came
  std::vector<size_t> members_;  // all of them
  int64_t num_rows_ = 0;
  int64_t num_steps_ahead_ = 0;       // for which all sequences have pages
  std::deque<ChosenTokens> pending_;  // of steps that were enqueued and not looked at
  std::optional<ReadPrompt> kept_;    // what the next request in line has as its prompt
  at::Tensor kept_hidden_;            // [1, H] of its last token
};

}  // namespace dsft::generate
