#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "device/graph.h"
#include "generate/decode_rows.h"
#include "generate/paged_cache.h"
#include "generate/sampling.h"
#include "model/causal_lm.h"

namespace dsft::generate {

/// A prompt to continue.
struct Request {
  std::vector<int32_t> prompt_ids;  ///< at least one
  int64_t max_new_tokens = 256;
  uint64_t stream = 0;  ///< with the seed the key of this sample's random numbers: the same samples come whatever else
                        ///< is in the batch
};

enum class FinishReason { kStop, kLength };

/// "stop" or "length".
const char* to_word(FinishReason reason);

/// What the model said.
struct Completion {
  std::vector<int32_t> token_ids;  ///< ends with the token that stopped it, where one did
  std::vector<float> log_probs;    ///< of each token, as kernels::sample_tokens makes them; empty where not asked for
  FinishReason finish_reason = FinishReason::kLength;
};

struct EngineOptions {
  SamplingOptions sampling;
  std::vector<int32_t> stop_ids;
  /// Whether an answer ends with the last of its tokens, asked for each token in turn, on the host (StopStrings); what
  /// the device has chosen after it is left out. Undefined: stop_ids and the length alone decide.
  std::function<bool(std::span<const int32_t> answer)> ends_answer;
  /// Asked before each step: where it is true, generate() ends at once with what there is. Undefined: nothing does.
  std::function<bool()> must_stop;
  uint64_t seed = 42;
  bool wants_log_probs = false;
  int64_t max_sequences = 32;              ///< that are decoded together
  int64_t prefill_tokens = 4096;           ///< of prompts in one forward pass; a longer prompt has a pass of its own
  int64_t cache_bytes = int64_t{4} << 30;  ///< for keys and values, but at least one sequence's; requests wait where
                                           ///< their pages are taken
  double free_memory_share = 0.9;          ///< of the memory that is free when the engine is made: a bound as well
  /// Keys and values have memory only while generate() runs. On a GPU it is torch's: an update finds it free without a
  /// call of the driver. Recorded steps have its address in them, and are recorded again where the next call gets
  /// another (Engine::counts tells how often): rollout and update taking turns, the same sizes find the same place.
  bool releases_memory = false;
  /// Tokens and log-probabilities of a request do not depend on what else is asked for, to the bit, and a training pass
  /// that reads answers as they were decoded (kernels::place_as_decoded) computes the same: on a GPU, and in 16 bits,
  /// at the price of slower products. In fp32 on the CPU they never do.
  bool isolates_rows = false;
  /// The weights have other addresses at each call (ZeRO-3): steps that were recorded serve one call.
  bool weights_move = false;
};

/// What an engine has done since it was made.
struct EngineCounts {
  int64_t num_steps = 0;
  int64_t num_read_tokens = 0;  ///< of prompts, and of answers that were put off and read again
  int64_t num_put_off = 0;      ///< times that a sequence had to leave its pages to others, and went on later
  int64_t num_moves = 0;        ///< of the cache to another address, with all steps recorded anew
  double host_seconds = 0;      ///< enqueuing steps and taking their tokens, callbacks included; not waiting for them
};

/// Called when a request is done, with its index, while the device does the next step: what takes longer than a step
/// (rewards) belongs to another thread.
using OnCompletion = std::function<void(size_t request, const Completion& completion)>;

/// Continues prompts, many at a time: waiting requests take the place of finished ones. A decoding step is one graph of
/// the device over rows whose state lives there; the host reads the tokens while the next step runs. Without gradients;
/// the head only sees the last token of each sequence.
///
/// Requests with equal prompts that stand one behind another (the generations of a group) read it once and share its
/// full pages. Where not every row can have the pages of its longest answer, pages are taken as answers grow, for 16
/// steps at a time, and a request is let in while a page for each other sequence stays free. Where pages run out all
/// the same, the sequence that came last leaves its pages, waits in front of the others and is read again later; the
/// first one always goes on, since an engine has pages for one sequence of the longest kind at least.
///
/// In fp32 on the CPU, and with EngineOptions::isolates_rows elsewhere, tokens and log-probabilities of a request are
/// the same to the bit whatever else is asked for, in any order, with any options but sampling, seed and stops, and
/// with any number of threads.
class Engine {
 public:
  /// For requests whose prompt and answer together have at most `longest` tokens. Borrows the model and the runner.
  /// Between calls of generate() the values of the model's weights may change. A recorded step keeps all else as it
  /// was: the weights' addresses, which adapters are switched on, and no hooks of the runner are called in it.
  Engine(model::CausalLm& model, const nn::BlockRunner& runner, const EngineOptions& options, int64_t longest);

  /// The completions in the order of the requests.
  std::vector<Completion> generate(const std::vector<Request>& requests, const OnCompletion& on_completion = {});

  const EngineCounts& counts() const { return counts_; }

 private:
  friend class Generation;

  model::CausalLm& model_;
  const nn::BlockRunner& runner_;
  EngineOptions options_;
  int64_t longest_, num_pages_;
  PagedCache cache_;
  int64_t num_seen_words_;  // of a row; 0: no repetition is penalised
  DecodeRows rows_;
  std::optional<device::GraphGroup> group_;
  std::map<int64_t, device::Graph> steps_;  // by number of rows
  EngineCounts counts_;
};

/// The same by an engine that lives for these requests alone.
std::vector<Completion> generate(model::CausalLm& model, const nn::BlockRunner& runner,
                                 const std::vector<Request>& requests, const EngineOptions& options,
                                 const OnCompletion& on_completion = {});

}  // namespace dsft::generate
