#include "kernels/decode_attention.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include "base/error.h"
#include "kernels/cuda_tensors.h"
#include "kernels/decode_attention_cpu.h"
#include "kernels/decode_attention_cuda.h"
#include "kernels/float_types.h"

namespace dsft::kernels {
namespace {

at::Tensor by_cpu_kernel(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::Tensor& k_cache,
                         at::Tensor& v_cache, const PagedSequences& sequences, const cpu::DecodeAttentionShape& shape) {
  const int64_t num_scratch = cpu::decode_attention_scratch(shape);
  const at::Tensor pages = sequences.pages.contiguous(), lengths = sequences.lengths.contiguous();
  at::Tensor out = at::empty_like(q);
  visit_float_type(q.scalar_type(), [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, q.size(0) * shape.num_kv_heads, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch(static_cast<size_t>(num_scratch));
      cpu::decode_attention_items<T>(shape,
                                     {q.const_data_ptr<T>(), k.const_data_ptr<T>(), v.const_data_ptr<T>(),
                                      k_cache.data_ptr<T>(), v_cache.data_ptr<T>(), pages.const_data_ptr<int32_t>(),
                                      lengths.const_data_ptr<int64_t>(), out.data_ptr<T>()},
                                     scratch.data(), begin, end);
    });
  });
  return out;
}

at::Tensor by_cuda_kernel(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::Tensor& k_cache,
                          at::Tensor& v_cache, const PagedSequences& sequences,
                          const cpu::DecodeAttentionShape& shape) {
  const at::Tensor pages = sequences.pages.contiguous(), lengths = sequences.lengths.contiguous();
  const int64_t num_splits = cuda::decode_attention_splits(shape);
  at::Tensor out = at::empty_like(q), parts;
  if (num_splits > 1)
    parts = at::empty({num_splits, q.size(0), q.size(1), shape.head_dim + 2}, q.options().dtype(at::kFloat));
  cuda::decode_attention({q.const_data_ptr(), k.const_data_ptr(), v.const_data_ptr(), k_cache.data_ptr(),
                          v_cache.data_ptr(), pages.const_data_ptr<int32_t>(), lengths.const_data_ptr<int64_t>(),
                          out.data_ptr(), parts.defined() ? parts.data_ptr<float>() : nullptr, num_splits, v.stride(0)},
                         shape, cuda::float_type(q), cuda::stream_for(q));
  return out;
}

// Rows may lie apart, at places that 16-byte accesses reach.
at::Tensor with_dense_heads(const at::Tensor& v) {
  const bool is_aligned =
      v.stride(0) * v.element_size() % 16 == 0 && reinterpret_cast<uintptr_t>(v.const_data_ptr()) % 16 == 0;
  return v.stride(2) == 1 && v.stride(1) == v.size(2) && is_aligned ? v : v.contiguous();
}

// [pages, K, kPageTokens, D] -> the sequences' [S, K, P * kPageTokens, D]
at::Tensor gather(const at::Tensor& cache, const at::Tensor& pages) {
  const at::Tensor chosen = cache.index_select(0, pages.flatten());
  return chosen.view({pages.size(0), pages.size(1), cache.size(1), kPageTokens, cache.size(3)})
      .transpose(1, 2)
      .reshape({pages.size(0), cache.size(1), pages.size(1) * kPageTokens, cache.size(3)});
}

}  // namespace

void append_rows(const at::Tensor& rows, at::Tensor& cache, const at::Tensor& pages, const at::Tensor& offsets) {
  using torch::indexing::Slice;
  cache.index_put_({pages, Slice(), offsets}, rows);
}

at::Tensor append_and_attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::Tensor& k_cache,
                             at::Tensor& v_cache, const PagedSequences& sequences, double scale, int64_t window) {
  DSFT_CHECK(q.dim() == 3 && k.dim() == 3 && k.sizes() == v.sizes() && k_cache.dim() == 4 &&
                 k_cache.sizes() == v_cache.sizes() && k_cache.size(1) == k.size(1) && k_cache.size(2) == kPageTokens &&
                 k_cache.size(3) == k.size(2) && q.size(1) % k.size(1) == 0 && q.size(2) == k.size(2) &&
                 q.size(0) == k.size(0) && sequences.pages.size(0) == q.size(0) &&
                 sequences.lengths.numel() == q.size(0) && k_cache.is_contiguous() && v_cache.is_contiguous(),
             "decode attention of q ", q.sizes(), " and k ", k.sizes(), " to ", k_cache.sizes(), " by pages ",
             sequences.pages.sizes());
  const cpu::DecodeAttentionShape shape{.num_sequences = q.size(0),
                                        .num_kv_heads = k.size(1),
                                        .group_size = q.size(1) / k.size(1),
                                        .head_dim = q.size(2),
                                        .page_tokens = kPageTokens,
                                        .pages_per_sequence = sequences.pages.size(1),
                                        .window = window,
                                        .scale = static_cast<float>(scale)};
  if (q.is_cpu() && q.scalar_type() != at::kDouble)
    return by_cpu_kernel(q.contiguous(), k.contiguous(), v.contiguous(), k_cache, v_cache, sequences, shape);
  if (cuda::takes(q) && cuda::has_decode_attention(shape))
    return by_cuda_kernel(q.contiguous(), k.contiguous(), with_dense_heads(v), k_cache, v_cache, sequences, shape);
  return append_and_attend_reference(q, k, v, k_cache, v_cache, sequences, scale, window);
}

at::Tensor append_and_attend_reference(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                       at::Tensor& k_cache, at::Tensor& v_cache, const PagedSequences& sequences,
                                       double scale, int64_t window) {
  const int64_t num_sequences = q.size(0), num_kv_heads = k.size(1), group = q.size(1) / num_kv_heads;
  const at::Tensor last = sequences.lengths - 1, pages = sequences.pages.to(at::kLong),
                   last_pages = pages.gather(1, last.div(kPageTokens, "floor").unsqueeze(1)).squeeze(1);
  append_rows(k, k_cache, last_pages, last.remainder(kPageTokens));
  append_rows(v, v_cache, last_pages, last.remainder(kPageTokens));
  const at::Tensor keys = gather(k_cache, pages), values = gather(v_cache, pages);
  const int64_t capacity = keys.size(2);
  const at::Tensor ends = sequences.lengths.unsqueeze(1),
                   index = torch::arange(capacity, sequences.lengths.options()).unsqueeze(0);
  at::Tensor mask = index.lt(ends);
  if (window > 0) mask = mask.logical_and(index.ge(ends - window));
  // what stands behind a sequence's end may be anything, a NaN too, and weight 0 times NaN is NaN
  const at::Tensor is_read = index.lt(ends).view({num_sequences, 1, capacity, 1});
  const at::Tensor known_keys = keys.masked_fill(is_read.logical_not(), 0),
                   known_values = values.masked_fill(is_read.logical_not(), 0);
  // the query heads of a group stand where tokens usually stand: the keys need no copy for each of them
  const at::Tensor grouped = q.reshape({num_sequences, num_kv_heads, group, q.size(2)});
  mask = mask.view({num_sequences, 1, 1, capacity}).expand({num_sequences, num_kv_heads, group, capacity});
  return at::scaled_dot_product_attention(grouped, known_keys, known_values, mask, /*dropout_p=*/0.0,
                                          /*is_causal=*/false, scale)
      .reshape(q.sizes());
}

}  // namespace dsft::kernels
