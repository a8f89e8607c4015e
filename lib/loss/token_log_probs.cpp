#include "loss/token_log_probs.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/float_products.h"
#include "kernels/row_products.h"
#include "kernels/token_log_probs_rows.h"
#include "nn/leaf_gradient.h"
#include "nn/replaced_values.h"

namespace dsft::loss {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// About the logits that exist at a time. Where the head is trained each chunk passes over the whole sum of its
// gradients, which fewer and larger ones do less often.
constexpr int64_t kChunkElements = int64_t{1} << 26;
constexpr int64_t kTrainedChunkBytes = int64_t{1} << 29;

// Whole tiles of the products, whose rate falls by up to a sixth where a tile is cut (docs/benchmarks.md).
int64_t rows_of_chunk(const at::Tensor& weight) {
  constexpr int64_t kTile = 256, kFewest = 16;
  const int64_t elements = weight.requires_grad() ? kTrainedChunkBytes / weight.element_size() : kChunkElements;
  const int64_t rows = elements / weight.size(0);
  return rows < kTile / 2 ? std::max(kFewest, rows) : (rows + kTile / 2) / kTile * kTile;
}

at::Tensor logits_of(const at::Tensor& hidden, const at::Tensor& weight, bool isolates_rows) {
  return isolates_rows ? kernels::multiply_each_row(hidden, weight) : torch::linear(hidden, weight);
}

// log p is a function of one hidden state alone, so its gradient there, W[target] - softmax W, can be made in the
// forward pass while the chunk's logits exist; any downstream gradient then only scales its row. A trained head needs
// the downstream gradient first, and so do entropies beside the log-probabilities: their chunks are computed again in
// the backward pass.
class LinearLogProbs : public torch::autograd::Function<LinearLogProbs> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& hidden, const at::Tensor& weight,
                               const at::Tensor& targets, int64_t chunk_rows, bool makes_gradient,
                               const Distribution& distribution) {
    const bool trains_head = weight.requires_grad();
    const bool trains_entropies = distribution.entropies == Entropies::kDifferentiable;
    const bool computes_again = trains_head || (makes_gradient && trains_entropies);
    const bool keeps_row_gradients = makes_gradient && !computes_again;
    const kernels::PolicyRows policy{.temperature = distribution.temperature,
                                     .wants_entropies = distribution.entropies != Entropies::kNone};
    at::Tensor log_probs = torch::empty({hidden.size(0)}, hidden.options().dtype(at::kFloat));
    at::Tensor is_argmax = torch::empty({hidden.size(0)}, hidden.options().dtype(at::kBool));
    at::Tensor entropies = policy.wants_entropies ? torch::empty_like(log_probs) : at::Tensor();
    at::Tensor row_gradients = keeps_row_gradients ? torch::empty_like(hidden) : at::Tensor();
    for (int64_t begin = 0; begin < hidden.size(0); begin += chunk_rows) {
      const int64_t count = std::min(chunk_rows, hidden.size(0) - begin);
      const at::Tensor of_chunk = targets.narrow(0, begin, count);
      at::Tensor logits = logits_of(hidden.narrow(0, begin, count), weight, distribution.isolates_rows);
      // the kernel that makes the gradient may add in another order
      const bool is_apart = keeps_row_gradients && distribution.isolates_rows;
      const auto statistics =
          kernels::token_log_probs_rows(logits, of_chunk, keeps_row_gradients && !is_apart, {}, policy);
      if (is_apart) kernels::token_log_probs_rows(logits, of_chunk, /*makes_gradient=*/true, {}, policy);
      log_probs.narrow(0, begin, count).copy_(statistics.log_probs);
      is_argmax.narrow(0, begin, count).copy_(statistics.is_argmax);
      if (entropies.defined()) entropies.narrow(0, begin, count).copy_(statistics.entropies);
      if (keeps_row_gradients) {
        at::Tensor rows = row_gradients.narrow(0, begin, count);
        torch::mm_out(rows, logits, weight);
      }
    }
    context->saved_data["trains_head"] = trains_head;
    context->saved_data["computes_again"] = computes_again;
    context->saved_data["temperature"] = distribution.temperature;
    context->saved_data["isolates_rows"] = distribution.isolates_rows;
    context->saved_data["chunk_rows"] = chunk_rows;
    if (computes_again)
      context->save_for_backward({hidden, weight, targets});
    else
      context->save_for_backward({row_gradients});
    if (!entropies.defined()) {
      context->mark_non_differentiable({is_argmax});
      return {log_probs, is_argmax};
    }
    if (trains_entropies)
      context->mark_non_differentiable({is_argmax});
    else
      context->mark_non_differentiable({is_argmax, entropies});
    return {log_probs, is_argmax, entropies};
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor scale = gradients[0].contiguous();  // [N] fp32
    if (!context->saved_data["computes_again"].toBool())
      return {saved[0] * scale.unsqueeze(1).to(saved[0].scalar_type()), {}, {}, {}, {}, {}};
    const bool trains_head = context->saved_data["trains_head"].toBool();
    const kernels::PolicyRows all_rows{
        .temperature = context->saved_data["temperature"].toDouble(),
        .entropy_scales = gradients.size() > 2 && gradients[2].defined() ? gradients[2].contiguous() : at::Tensor()};
    const at::Tensor &hidden = saved[0], &weight = saved[1], &targets = saved[2];
    // a micro-batch without a label still takes part in the update, with zeros
    if (hidden.size(0) == 0) {
      const at::Tensor place = trains_head ? nn::accept_offered_gradient(weight) : at::Tensor();
      if (place.defined()) place.zero_();
      const bool is_left = trains_head && !place.defined();
      return {torch::zeros_like(hidden), is_left ? torch::zeros_like(weight) : at::Tensor(), {}, {}, {}, {}};
    }
    const int64_t chunk_rows = context->saved_data["chunk_rows"].toInt();
    const bool isolates_rows = context->saved_data["isolates_rows"].toBool();
    at::Tensor hidden_gradient = torch::empty_like(hidden);
    at::Tensor sum, weight_gradient;
    if (trains_head) sum = nn::accept_offered_gradient(weight);
    const bool is_unwritten = sum.defined();
    if (trains_head && !is_unwritten) sum = weight.grad();
    // in fp32: pieces of a 16-bit sum are rounded once per chunk
    if (trains_head && (!sum.defined() || sum.scalar_type() == at::kBFloat16 || sum.scalar_type() == at::kHalf))
      sum = weight_gradient =
          torch::zeros_like(weight, at::promote_types(weight.scalar_type(), at::kFloat), at::MemoryFormat::Contiguous);
    for (int64_t begin = 0; begin < hidden.size(0); begin += chunk_rows) {
      const int64_t count = std::min(chunk_rows, hidden.size(0) - begin);
      const at::Tensor rows = hidden.narrow(0, begin, count);
      at::Tensor logits = logits_of(rows, weight, isolates_rows);
      kernels::PolicyRows policy = all_rows;
      if (policy.entropy_scales.defined()) policy.entropy_scales = policy.entropy_scales.narrow(0, begin, count);
      kernels::token_log_probs_rows(logits, targets.narrow(0, begin, count), true, scale.narrow(0, begin, count),
                                    policy);
      at::Tensor out = hidden_gradient.narrow(0, begin, count);
      torch::mm_out(out, logits, weight);
      if (!trains_head) continue;
      if (begin == 0 && is_unwritten)
        kernels::write_product(sum, logits.t(), rows);
      else
        kernels::add_product(sum, logits.t(), rows);
    }
    if (weight_gradient.defined()) weight_gradient = weight_gradient.to(weight.scalar_type());
    return {hidden_gradient, weight_gradient, {}, {}, {}, {}};
  }
};

// The keys of some tokens.
template <typename Choose>
kernels::DropoutKeys choose(kernels::DropoutKeys keys, const Choose& choose_of) {
  if (!keys.sample_keys.defined()) return keys;
  keys.sample_keys = choose_of(keys.sample_keys);
  keys.positions = choose_of(keys.positions);
  return keys;
}

// Log-probabilities by the kernel that a sampler has, without a gradient.
at::Tensor values_of(const at::Tensor& logits, const at::Tensor& targets, const Distribution& distribution) {
  const at::NoGradGuard no_grad;
  at::Tensor read = logits.detach().contiguous();
  const kernels::PolicyRows policy{.temperature = distribution.temperature, .wants_entropies = true};
  return kernels::token_log_probs_rows(read, targets, /*makes_gradient=*/false, {}, policy).log_probs;
}

// A head with an adapter: each chunk is its own recomputed block, so that the same memory bound holds. Without a row
// there is one empty chunk, so that the result stays connected to the adapter.
TokenLogProbs adapted_log_probs(const at::Tensor& hidden, const nn::Linear& head, const at::Tensor& targets,
                                const kernels::DropoutKeys& dropout, const Distribution& distribution) {
  const int64_t chunk_rows = rows_of_chunk(head.weight());
  const nn::BlockRunner chunks(nn::BlockRunner::Keep::kInput);
  const bool wants_entropies = distribution.entropies != Entropies::kNone;
  std::vector<at::Tensor> log_probs, is_argmax, entropies;
  for (int64_t begin = 0; begin == 0 || begin < hidden.size(0); begin += chunk_rows) {
    const int64_t count = std::min(chunk_rows, hidden.size(0) - begin);
    const at::Tensor chunk_targets = targets.narrow(0, begin, count);
    nn::ForwardContext context;
    context.isolates_rows = distribution.isolates_rows;
    context.dropout = choose(dropout, [=](const at::Tensor& keys) { return keys.narrow(0, begin, count); });
    const auto results = chunks.run(
        0,
        [&head, chunk_targets, context, distribution, wants_entropies](const auto& in) {
          const at::Tensor logits = head.forward(in[0], context);
          const at::Tensor wide = distribution.temperature == 1
                                      ? torch::log_softmax(logits, -1, at::kFloat)
                                      : torch::log_softmax(logits.to(at::kFloat) / distribution.temperature, -1);
          at::Tensor log_prob = wide.gather(1, chunk_targets.unsqueeze(1)).squeeze(1);
          if (distribution.isolates_rows)
            log_prob = nn::replace_values(log_prob, values_of(logits, chunk_targets, distribution));
          std::vector<at::Tensor> out = {log_prob, logits.argmax(-1).eq(chunk_targets)};
          if (wants_entropies) out.push_back(-(wide.exp() * wide).sum(-1));
          return out;
        },
        {hidden.narrow(0, begin, count)});
    log_probs.push_back(results[0]);
    is_argmax.push_back(results[1]);
    if (wants_entropies) entropies.push_back(results[2]);
  }
  TokenLogProbs result{torch::cat(log_probs), torch::cat(is_argmax)};
  if (!wants_entropies) return result;
  result.entropies = torch::cat(entropies);
  if (distribution.entropies == Entropies::kValues) result.entropies = result.entropies.detach();
  return result;
}

}  // namespace

TokenLogProbs linear_log_probs(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                               int64_t chunk_rows, const Distribution& distribution) {
  DSFT_CHECK(hidden.dim() == 2 && targets.dim() == 1 && hidden.size(0) == targets.size(0), "log-probabilities of ",
             hidden.sizes(), " and ", targets.sizes());
  const bool makes_gradient = at::GradMode::is_enabled() && (hidden.requires_grad() || weight.requires_grad());
  const variable_list results =
      LinearLogProbs::apply(hidden.contiguous(), weight, targets, chunk_rows > 0 ? chunk_rows : rows_of_chunk(weight),
                            makes_gradient, distribution);
  return {results[0], results[1], results.size() > 2 ? results[2] : at::Tensor()};
}

TokenLogProbs token_log_probs(model::CausalLm& model, const at::Tensor& hidden, const at::Tensor& rows,
                              const at::Tensor& targets, const nn::BlockRunner& runner,
                              const kernels::DropoutKeys& dropout, const Distribution& distribution) {
  const kernels::DropoutKeys of_rows =
      choose(dropout, [&](const at::Tensor& keys) { return keys.index_select(0, rows); });
  const auto results = model.run_head(
      hidden.index_select(0, rows), runner,
      [targets, of_rows, distribution](const at::Tensor& normalised, const nn::Linear& head) {
        TokenLogProbs result = head.adapter() && head.adapter()->is_enabled
                                   ? adapted_log_probs(normalised, head, targets, of_rows, distribution)
                                   : linear_log_probs(normalised, head.weight(), targets, 0, distribution);
        std::vector<at::Tensor> out = {result.log_probs, result.is_argmax};
        if (result.entropies.defined()) out.push_back(result.entropies);
        return out;
      });
  return {results[0], results[1], results.size() > 2 ? results[2] : at::Tensor()};
}

}  // namespace dsft::loss
