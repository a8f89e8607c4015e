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

cpu::DecodeAttentionShape shape_of(const PackedHeads& heads, const PagedKeys& paged, double scale, int64_t window) {
  return {.num_sequences = paged.sequences.lengths.numel(),
          .num_kv_heads = heads.num_kv_heads,
          .group_size = heads.num_heads / heads.num_kv_heads,
          .head_dim = heads.head_dim,
          .page_tokens = kPageTokens,
          .pages_per_sequence = paged.sequences.pages.size(1),
          .window = window,
          .scale = static_cast<float>(scale)};
}

void check(const PackedHeads& heads, int64_t num_tokens, const PagedKeys& paged) {
  DSFT_CHECK(paged.keys.dim() == 4 && paged.keys.sizes() == paged.values.sizes() && paged.keys.is_contiguous() &&
                 paged.values.is_contiguous() && paged.keys.size(1) == heads.num_kv_heads &&
                 paged.keys.size(2) == kPageTokens && paged.keys.size(3) == heads.head_dim &&
                 heads.num_heads % heads.num_kv_heads == 0 && paged.sequences.pages.size(0) == num_tokens &&
                 paged.sequences.lengths.numel() == num_tokens,
             "decode attention of ", num_tokens, " tokens with ", heads.num_heads, " heads of ", heads.head_dim,
             " and ", heads.num_kv_heads, " of keys to ", paged.keys.sizes(), " by pages ",
             paged.sequences.pages.sizes());
}

at::Tensor by_cpu_kernel(const Heads& heads, const PagedKeys& paged, const cpu::DecodeAttentionShape& shape) {
  const int64_t num_scratch = cpu::decode_attention_scratch(shape);
  const at::Tensor q = heads.q.contiguous(), k = heads.k.contiguous(), v = heads.v.contiguous();
  const at::Tensor pages = paged.sequences.pages.contiguous(), lengths = paged.sequences.lengths.contiguous();
  at::Tensor out = at::empty_like(q);
  visit_float_type(q.scalar_type(), [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, q.size(0) * shape.num_kv_heads, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch(static_cast<size_t>(num_scratch));
      cpu::decode_attention_items<T>(
          shape,
          {q.const_data_ptr<T>(), k.const_data_ptr<T>(), v.const_data_ptr<T>(), paged.keys.data_ptr<T>(),
           paged.values.data_ptr<T>(), pages.const_data_ptr<int32_t>(), lengths.const_data_ptr<int64_t>(),
           out.data_ptr<T>()},
          scratch.data(), begin, end);
    });
  });
  return out;
}

// `rows`: where q, k and v stand, and what is yet to be done to them.
at::Tensor by_cuda_kernel(cuda::DecodeTensors rows, const at::Tensor& like, const PagedKeys& paged,
                          const cpu::DecodeAttentionShape& shape) {
  const at::Tensor pages = paged.sequences.pages.contiguous(), lengths = paged.sequences.lengths.contiguous();
  const int64_t num_heads = shape.num_kv_heads * shape.group_size;
  at::Tensor out = at::empty({shape.num_sequences, num_heads, shape.head_dim}, like.options()), parts;
  rows.k_cache = paged.keys.data_ptr();
  rows.v_cache = paged.values.data_ptr();
  rows.pages = pages.const_data_ptr<int32_t>();
  rows.lengths = lengths.const_data_ptr<int64_t>();
  rows.out = out.data_ptr();
  rows.num_splits = paged.sequences.are_isolated ? 1 : cuda::decode_attention_splits(shape);
  if (rows.num_splits > 1) {
    parts = at::empty({rows.num_splits, shape.num_sequences, num_heads, shape.head_dim + 2},
                      like.options().dtype(at::kFloat));
    rows.parts = parts.data_ptr<float>();
  }
  cuda::decode_attention(rows, shape, cuda::float_type(like), cuda::stream_for(like));
  return out;
}

// Rows may lie apart, at places that 16-byte accesses reach.
at::Tensor with_dense_heads(const at::Tensor& x) {
  const bool is_aligned = x.stride(0) * x.element_size() % 16 == 0 && cuda::is_aligned(x);
  return x.stride(2) == 1 && x.stride(1) == x.size(2) && is_aligned ? x : x.contiguous();
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
  DSFT_CHECK(rows.dim() == 3 && cache.dim() == 4 && rows.size(1) == cache.size(1) && rows.size(2) == cache.size(3) &&
                 cache.size(2) == kPageTokens && pages.numel() == rows.size(0) && offsets.numel() == rows.size(0),
             "rows ", rows.sizes(), " for a cache ", cache.sizes());
  const bool has_kernel = cuda::takes(rows) && rows.size(2) % 8 == 0 && cache.is_contiguous() &&
                          pages.is_contiguous() && offsets.is_contiguous();
  if (!has_kernel) {
    cache.index_put_({pages, Slice(), offsets}, rows);
    return;
  }
  const at::Tensor dense = with_dense_heads(rows);
  cuda::append_rows({.rows = dense.const_data_ptr(),
                     .row_stride = dense.stride(0),
                     .cache = cache.data_ptr(),
                     .pages = pages.const_data_ptr<int64_t>(),
                     .offsets = offsets.const_data_ptr<int64_t>(),
                     .tokens = dense.size(0),
                     .kv_heads = dense.size(1),
                     .head_dim = dense.size(2)},
                    cuda::float_type(dense), cuda::stream_for(dense));
}

bool isolates_sequences(const at::TensorOptions& options, const PackedHeads& heads) {
  const at::ScalarType type = c10::typeMetaToScalarType(options.dtype());
  if (options.device().is_cpu()) return type != at::kDouble;
  return type != at::kDouble && cuda::has_decode_attention({.num_sequences = 1,
                                                            .num_kv_heads = heads.num_kv_heads,
                                                            .group_size = heads.num_heads / heads.num_kv_heads,
                                                            .head_dim = heads.head_dim,
                                                            .page_tokens = kPageTokens,
                                                            .pages_per_sequence = 1,
                                                            .window = 0,
                                                            .scale = 1});
}

at::Tensor append_and_attend(const Heads& heads, const PagedKeys& paged, double scale, int64_t window) {
  const at::Tensor &q = heads.q, &k = heads.k;
  DSFT_CHECK(
      q.dim() == 3 && k.dim() == 3 && k.sizes() == heads.v.sizes() && q.size(0) == k.size(0) && q.size(2) == k.size(2),
      "decode attention of q ", q.sizes(), ", k ", k.sizes(), " and v ", heads.v.sizes());
  const PackedHeads counts{q.size(1), k.size(1), q.size(2)};
  check(counts, q.size(0), paged);
  const cpu::DecodeAttentionShape shape = shape_of(counts, paged, scale, window);
  if (q.is_cpu() && q.scalar_type() != at::kDouble) return by_cpu_kernel(heads, paged, shape);
  if (!cuda::takes(q) || !cuda::has_decode_attention(shape))
    return append_and_attend_reference(heads, paged, scale, window);
  const at::Tensor queries = with_dense_heads(q), keys = with_dense_heads(k), values = with_dense_heads(heads.v);
  cuda::DecodeTensors rows = {};
  rows.q = queries.const_data_ptr();
  rows.k = keys.const_data_ptr();
  rows.v = values.const_data_ptr();
  rows.q_stride = queries.stride(0);
  rows.k_stride = keys.stride(0);
  rows.v_stride = values.stride(0);
  return by_cuda_kernel(rows, q, paged, shape);
}

at::Tensor rotary_append_and_attend(const at::Tensor& qkv, const PackedHeads& heads, const HeadNorms& norms,
                                    const RotaryAngles& angles, const PagedKeys& paged, double scale, int64_t window) {
  check(heads, qkv.size(0), paged);
  const cpu::DecodeAttentionShape shape = shape_of(heads, paged, scale, window);
  const bool is_16_bit = c10::elementSize(qkv.scalar_type()) == 2;
  // a pass over whole sequences turns heads by a kernel of its own
  if (!is_16_bit || paged.sequences.are_isolated || !cuda::takes(qkv) || !cuda::has_decode_attention(shape))
    return append_and_attend(rotate_heads(qkv, heads, norms, angles), paged, scale, window)
        .reshape({qkv.size(0), heads.num_heads * heads.head_dim});
  const at::Tensor dense = qkv.contiguous(), cos = angles.cos.contiguous(), sin = angles.sin.contiguous();
  DSFT_CHECK(dense.size(1) == heads.width() && cos.size(0) == dense.size(0) && 2 * cos.size(1) == heads.head_dim &&
                 sin.sizes() == cos.sizes(),
             "heads of ", qkv.sizes(), " with angles ", cos.sizes(), " and ", sin.sizes());
  DSFT_CHECK(norms.q.defined() == norms.k.defined(), "a norm of queries or of keys alone");
  for (const at::Tensor& norm : {norms.q, norms.k})
    DSFT_CHECK(!norm.defined() || (norm.numel() == heads.head_dim && norm.is_contiguous() &&
                                   norm.scalar_type() == dense.scalar_type()),
               "a norm ", norm.sizes(), " of heads of ", heads.head_dim);
  const auto columns_from = [&](int64_t head) {
    return static_cast<const char*>(dense.const_data_ptr()) + head * heads.head_dim * dense.element_size();
  };
  cuda::DecodeTensors rows = {};
  rows.q = columns_from(0);
  rows.k = columns_from(heads.num_heads);
  rows.v = columns_from(heads.num_heads + heads.num_kv_heads);
  rows.q_stride = rows.k_stride = rows.v_stride = dense.stride(0);
  rows.factors = {.q_weight = norms.q.defined() ? norms.q.const_data_ptr() : nullptr,
                  .k_weight = norms.k.defined() ? norms.k.const_data_ptr() : nullptr,
                  .cos = cos.const_data_ptr<float>(),
                  .sin = sin.const_data_ptr<float>(),
                  .eps = static_cast<float>(norms.eps)};
  return by_cuda_kernel(rows, dense, paged, shape).view({dense.size(0), -1});
}

at::Tensor append_and_attend_reference(const Heads& heads, const PagedKeys& paged, double scale, int64_t window) {
  const at::Tensor &q = heads.q, &k = heads.k, &v = heads.v;
  const PagedSequences& sequences = paged.sequences;
  at::Tensor k_cache = paged.keys, v_cache = paged.values;
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
