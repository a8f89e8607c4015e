#pragma once

#include <cstdint>
#include <functional>
#include <map>
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
  uint64_t seed = 42;
  bool wants_log_probs = false;
  int64_t max_sequences = 32;              ///< that are decoded together
  int64_t prefill_tokens = 4096;           ///< of prompts in one forward pass; a longer prompt has a pass of its own
  int64_t cache_bytes = int64_t{4} << 30;  ///< for keys and values, but at least one sequence's; requests wait where
                                           ///< their pages are taken
};

/// Called when a request is done, with its index.
using OnCompletion = std::function<void(size_t request, const Completion& completion)>;

/// Continues prompts, many at a time: waiting requests take the place of finished ones. A decoding step is one graph of
/// the device over rows whose state lives there; the host reads the tokens while the next step runs. Without gradients;
/// the head only sees the last token of each sequence.
class Engine {
 public:
  /// For requests whose prompt and answer together have at most `longest` tokens. Borrows the model and the runner.
  /// Between calls of generate() the values of the model's weights may change. A recorded step keeps all else as it
  /// was: the weights' addresses, which adapters are switched on, and no hooks of the runner are called in it.
  Engine(model::CausalLm& model, const nn::BlockRunner& runner, const EngineOptions& options, int64_t longest);

  /// The completions in the order of the requests.
  std::vector<Completion> generate(const std::vector<Request>& requests, const OnCompletion& on_completion = {});

 private:
  friend class Generation;

  model::CausalLm& model_;
  const nn::BlockRunner& runner_;
  EngineOptions options_;
  int64_t longest_;
  PagedCache cache_;
  DecodeRows rows_;
  device::GraphGroup group_;
  std::map<int64_t, device::Graph> steps_;  // by number of rows
};

/// The same by an engine that lives for these requests alone.
std::vector<Completion> generate(model::CausalLm& model, const nn::BlockRunner& runner,
                                 const std::vector<Request>& requests, const EngineOptions& options,
                                 const OnCompletion& on_completion = {});

}  // namespace dsft::generate
