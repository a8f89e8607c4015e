#include "generate/pooled_decoding.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "device/device.h"
#include "generate/paged_cache.h"

namespace dsft::generate {
namespace {

int64_t num_pages(const PooledRequest& request, int64_t max_new_tokens) {
  int64_t count = 0;
  for (const auto& prompt : request.prompts)
    count += kernels::pages_for(static_cast<int64_t>(prompt.size()) + max_new_tokens);
  return count;
}

// Requests that are answered together, to the end of the last one.
class PooledBatch {
 public:
  PooledBatch(model::CausalLm& model, const nn::BlockRunner& runner, std::span<const PooledRequest> requests,
              const PooledOptions& options)
      : model_(model), runner_(runner), requests_(requests), options_(options), completions_(requests.size()) {
    int64_t pages = 1;
    for (const PooledRequest& request : requests) pages += num_pages(request, options.max_new_tokens);
    cache_.emplace(model.spec(), model.dtype(), model.device(), pages, options.isolates_rows);
    cache_->adapters()->renew();
    cache_->take_memory();
    live_.resize(requests.size());
    std::iota(live_.begin(), live_.end(), size_t{0});
  }

  std::vector<Completion> run() {
    at::Tensor last = read_prompts();
    while (true) {
      take(choose(last));
      std::erase_if(live_, [this](size_t request) { return is_done(request); });
      if (live_.empty()) return std::move(completions_);
      last = step();
      if (options_.on_step) options_.on_step();
    }
  }

 private:
  size_t num_agents() const { return options_.weights.size(); }

  // The hidden states [live x A, H] of the prompts' last tokens.
  at::Tensor read_prompts() {
    std::vector<at::Tensor> last;
    std::vector<Document> documents;
    int64_t num_tokens = 0;
    for (const PooledRequest& request : requests_) {
      for (const std::vector<int32_t>& prompt : request.prompts) {
        const auto length = static_cast<int64_t>(prompt.size());
        if (!documents.empty() && num_tokens + length > options_.prefill_tokens) {
          last.push_back(read(documents));
          documents.clear();
          num_tokens = 0;
        }
        documents.push_back({prompt, std::vector<int32_t>(prompt.size(), -100), 0});
        num_tokens += length;
      }
    }
    last.push_back(read(documents));
    return torch::cat(last);
  }

  // Those of the next prompts, in one pass.
  at::Tensor read(const std::vector<Document>& documents) {
    std::vector<kernels::PrefilledSequence> sequences;
    std::vector<int64_t> rows;
    int64_t num_tokens = 0;
    for (const Document& document : documents) {
      const auto length = static_cast<int64_t>(document.ids.size());
      pages_.push_back(cache_->take_pages(kernels::pages_for(length + options_.max_new_tokens)));
      sequences.push_back({length, length, pages_.back()});
      num_tokens += length;
      rows.push_back(num_tokens - 1);
    }
    cache_->begin_prefill(sequences);
    const at::Device device = model_.device();
    const at::Tensor hidden =
        model_.hidden_states(make_batch(documents, /*epoch=*/0).to(device), runner_, /*training=*/nullptr, &*cache_);
    return hidden.index_select(0, device::copy_from_host(torch::tensor(rows, at::kLong), device));
  }

  // Those of the answers' last tokens.
  at::Tensor step() {
    std::vector<int64_t> ids, lengths;
    std::vector<int32_t> tables;
    size_t width = 1;
    for (const auto& pages : pages_) width = std::max(width, pages.size());
    for (const size_t request : live_) {
      const std::vector<int32_t>& answer = completions_[request].token_ids;
      for (size_t agent = 0; agent < num_agents(); ++agent) {
        ids.push_back(answer.back());
        lengths.push_back(static_cast<int64_t>(requests_[request].prompts[agent].size() + answer.size()));
        const std::vector<int32_t>& pages = pages_[request * num_agents() + agent];
        tables.insert(tables.end(), pages.begin(), pages.end());
        tables.resize(ids.size() * width);
      }
    }
    const auto count = static_cast<int64_t>(ids.size());
    const auto to_device = [&](const at::Tensor& tensor) { return device::copy_from_host(tensor, model_.device()); };
    Batch batch;
    batch.ids = to_device(torch::tensor(ids, at::kLong));
    const at::Tensor read = to_device(torch::tensor(lengths, at::kLong));
    batch.positions = (read - 1).unsqueeze(0);
    batch.boundaries.resize(static_cast<size_t>(count) + 1);
    std::iota(batch.boundaries.begin(), batch.boundaries.end(), int64_t{0});
    cache_->begin_decode({to_device(torch::tensor(tables, at::kInt).view({count, static_cast<int64_t>(width)})), read});
    return model_.hidden_states(batch, runner_, /*training=*/nullptr, &*cache_);
  }

  // The likeliest token of each live request, int64 [live] on the host.
  at::Tensor choose(const at::Tensor& hidden) {
    nn::ForwardContext context;
    context.isolates_rows = cache_->isolates_rows();
    context.adapters = cache_->adapters();
    const at::Tensor weights =
        device::copy_from_host(torch::tensor(options_.weights, at::kFloat), hidden.device()).view({1, -1, 1});
    const auto pool = [&](const at::Tensor& normalised, const nn::Linear& head) {
      const at::Tensor by_agent = normalised.view({-1, weights.size(1), normalised.size(1)});
      const at::Tensor pooled = (by_agent.to(at::kFloat) * weights).sum(1).to(normalised.scalar_type());
      return std::vector<at::Tensor>{head.forward(pooled, context).argmax(-1)};
    };
    return model_.run_head(hidden, runner_, pool)[0].cpu();
  }

  void take(const at::Tensor& tokens) {
    const auto* token = tokens.const_data_ptr<int64_t>();
    for (const size_t request : live_) completions_[request].token_ids.push_back(static_cast<int32_t>(*token++));
  }

  bool is_done(size_t request) {
    Completion& completion = completions_[request];
    const std::vector<int32_t>& answer = completion.token_ids;
    const bool is_stopped =
        std::find(options_.stop_ids.begin(), options_.stop_ids.end(), answer.back()) != options_.stop_ids.end() ||
        (options_.ends_answer && options_.ends_answer(answer));
    completion.finish_reason = is_stopped ? FinishReason::kStop : FinishReason::kLength;
    return is_stopped || static_cast<int64_t>(answer.size()) >= options_.max_new_tokens;
  }

  model::CausalLm& model_;
  const nn::BlockRunner& runner_;
  std::span<const PooledRequest> requests_;
  const PooledOptions& options_;
  std::vector<Completion> completions_;
  std::optional<PagedCache> cache_;
  std::vector<std::vector<int32_t>> pages_;  // of request and agent
  std::vector<size_t> live_;                 // requests
};

}  // namespace

std::vector<Completion> decode_pooled(model::CausalLm& model, const nn::BlockRunner& runner,
                                      const std::vector<PooledRequest>& requests, const PooledOptions& options) {
  for (const PooledRequest& request : requests)
    DSFT_CHECK(request.prompts.size() == options.weights.size() && options.max_new_tokens > 0, request.prompts.size(),
               " prompts for ", options.weights.size(), " weights");
  const torch::NoGradGuard no_grad;
  const auto bytes = options.free_memory_share * static_cast<double>(device::free_memory_bytes(model.device()));
  const auto most_pages = static_cast<int64_t>(bytes) / PagedCache::page_bytes(model.spec(), model.dtype());
  const size_t most = std::max<size_t>(1, static_cast<size_t>(options.max_sequences) / options.weights.size());
  std::vector<Completion> completions;
  for (size_t begin = 0; begin < requests.size();) {
    size_t end = begin;
    int64_t pages = 1;
    do {
      pages += num_pages(requests[end++], options.max_new_tokens);
    } while (end < requests.size() && end - begin < most &&
             pages + num_pages(requests[end], options.max_new_tokens) <= most_pages);
    for (Completion& completion :
         PooledBatch(model, runner, std::span(requests).subspan(begin, end - begin), options).run())
      completions.push_back(std::move(completion));
    begin = end;
  }
  return completions;
}

}  // namespace dsft::generate
