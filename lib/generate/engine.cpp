#include "generate/engine.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/error.h"
#include "device/device.h"
#include "generate/generation.h"

namespace dsft::generate {
namespace {

int64_t longest_of(const std::vector<Request>& requests) {
  int64_t longest = 0;
  for (const Request& request : requests)
    longest = std::max(longest, static_cast<int64_t>(request.prompt_ids.size()) + request.max_new_tokens);
  return longest;
}

// Page 0, and as many as the memory holds or all rows could need.
int64_t count_pages(const model::CausalLm& model, const EngineOptions& options, int64_t longest) {
  DSFT_CHECK(longest > 1 && options.max_sequences > 0 && options.free_memory_share > 0, "an engine for ",
             options.max_sequences, " sequences of ", longest, " tokens in ", options.free_memory_share,
             " of the memory");
  const double in_share = options.free_memory_share * static_cast<double>(device::free_memory_bytes(model.device()));
  const int64_t bytes = std::min(options.cache_bytes, static_cast<int64_t>(in_share));
  const int64_t in_memory = bytes / PagedCache::page_bytes(model.spec(), model.dtype());
  return 1 + std::max(kernels::pages_for(longest),
                      std::min(in_memory, options.max_sequences * kernels::pages_for(longest)));
}

}  // namespace

const char* to_word(FinishReason reason) {
  return reason == FinishReason::kStop ? "stop" : "length";
}

Engine::Engine(model::CausalLm& model, const nn::BlockRunner& runner, const EngineOptions& options, int64_t longest)
    : model_(model),
      runner_(runner),
      options_(options),
      longest_(longest),
      num_pages_(count_pages(model, options, longest)),
      cache_(model.spec(), model.dtype(), model.device(), num_pages_, options.isolates_rows),
      num_seen_words_(options.sampling.repetition_penalty == 1.0 ? 0 : (model.spec().vocab_size + 31) / 32),
      rows_(options.max_sequences, kernels::pages_for(longest), num_seen_words_, options.wants_log_probs,
            model.device()),
      group_(std::in_place, model.device()) {
  if (!options.releases_memory) cache_.take_memory();
}

std::vector<Completion> Engine::generate(const std::vector<Request>& requests, const OnCompletion& on_completion) {
  for (const Request& request : requests)
    DSFT_CHECK(!request.prompt_ids.empty() && request.max_new_tokens > 0, "a request with ", request.prompt_ids.size(),
               " prompt tokens for ", request.max_new_tokens, " new ones");
  DSFT_CHECK(longest_of(requests) <= longest_, "a request of ", longest_of(requests), " tokens for an engine of ",
             longest_);
  const torch::NoGradGuard no_grad;
  cache_.adapters()->renew();
  const bool has_moved = cache_.take_memory();
  if (has_moved || options_.weights_move) {  // what was recorded reads and writes the old places
    steps_.clear();
    group_.emplace(model_.device());
    counts_.num_moves += has_moved;
  }
  const auto release = [](Engine* engine) {
    if (engine->options_.releases_memory) engine->cache_.give_back_memory();
  };
  const std::unique_ptr<Engine, decltype(release)> at_end(this, release);
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
