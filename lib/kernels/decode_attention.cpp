#include "kernels/decode_attention.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <numeric>

#include "kernels/cuda_tensors.h"
#include "kernels/decode_attention_cpu.h"
#include "kernels/decode_attention_cuda.h"
#include "kernels/float_types.h"

namespace dsft::kernels {
namespace {

at::Tensor attend_on_cpu(const at::Tensor& q, const at::Tensor& k_cache, const at::Tensor& v_cache,
                         const std::vector<int64_t>& slots, const std::vector<int64_t>& lengths, double scale,
                         int64_t window) {
  const cpu::DecodeAttentionShape shape{.num_kv_heads = k_cache.size(1),
                                        .group_size = q.size(1) / k_cache.size(1),
                                        .head_dim = q.size(2),
                                        .capacity = k_cache.size(2),
                                        .window = window,
                                        .scale = static_cast<float>(scale)};
  const int64_t num_scratch = cpu::decode_attention_scratch(shape, *std::max_element(lengths.begin(), lengths.end()));
  const at::Tensor dense_q = q.contiguous();
  at::Tensor out = at::empty_like(dense_q);
  visit_float_type(q.scalar_type(), [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, q.size(0) * shape.num_kv_heads, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch(static_cast<size_t>(num_scratch));
      cpu::decode_attention_items<T>(shape, dense_q.const_data_ptr<T>(), k_cache.const_data_ptr<T>(),
                                     v_cache.const_data_ptr<T>(), slots.data(), lengths.data(), out.data_ptr<T>(),
                                     scratch.data(), begin, end);
    });
  });
  return out;
}

bool are_first(const std::vector<int64_t>& slots) {
  for (size_t s = 0; s < slots.size(); ++s)
    if (slots[s] != static_cast<int64_t>(s)) return false;
  return true;
}

}  // namespace

at::Tensor decode_attention(const at::Tensor& q, const at::Tensor& k_cache, const at::Tensor& v_cache,
                            const std::vector<int64_t>& slots, const std::vector<int64_t>& lengths, double scale,
                            int64_t window) {
  DSFT_CHECK(q.dim() == 3 && k_cache.dim() == 4 && k_cache.sizes() == v_cache.sizes() &&
                 q.size(1) % k_cache.size(1) == 0 && q.size(2) == k_cache.size(3) &&
                 static_cast<size_t>(q.size(0)) == slots.size() && slots.size() == lengths.size() &&
                 k_cache.is_contiguous() && v_cache.is_contiguous(),
             "decode attention of q ", q.sizes(), " to ", k_cache.sizes());
  if (q.is_cpu() && q.scalar_type() != at::kDouble)
    return attend_on_cpu(q, k_cache, v_cache, slots, lengths, scale, window);
  return decode_attention_reference(q, k_cache, v_cache, slots, lengths, scale, window);
}

at::Tensor decode_attention_reference(const at::Tensor& q, const at::Tensor& k_cache, const at::Tensor& v_cache,
                                      const std::vector<int64_t>& slots, const std::vector<int64_t>& lengths,
                                      double scale, int64_t window) {
  const int64_t num_sequences = q.size(0), num_kv_heads = k_cache.size(1),
                longest = *std::max_element(lengths.begin(), lengths.end());
  const auto on_device = [&](const std::vector<int64_t>& values) {
    return torch::tensor(values, at::kLong).to(q.device());
  };
  const auto rows_of = [&](const at::Tensor& cache) {
    const at::Tensor rows =
        are_first(slots) ? cache.narrow(0, 0, num_sequences) : cache.index_select(0, on_device(slots));
    return rows.narrow(2, 0, longest);
  };
  const at::Tensor ends = on_device(lengths).unsqueeze(1),
                   index = torch::arange(longest, at::TensorOptions(at::kLong).device(q.device())).unsqueeze(0);
  at::Tensor mask = index.lt(ends);
  if (window > 0) mask = mask.logical_and(index.ge(ends - window));
  // the query heads of a group stand where tokens usually stand: the keys need no copy for each of them
  const int64_t group = q.size(1) / num_kv_heads;
  const at::Tensor grouped = q.reshape({num_sequences, num_kv_heads, group, q.size(2)});
  mask = mask.view({num_sequences, 1, 1, longest}).expand({num_sequences, num_kv_heads, group, longest});
  return at::scaled_dot_product_attention(grouped, rows_of(k_cache), rows_of(v_cache), mask, /*dropout_p=*/0.0,
                                          /*is_causal=*/false, scale)
      .reshape(q.sizes());
}

std::optional<at::Tensor> append_and_attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                            at::Tensor& k_cache, at::Tensor& v_cache, const at::Tensor& slots,
                                            const at::Tensor& lengths, double scale, int64_t window) {
  if (!cuda::takes(q)) return std::nullopt;
  const cuda::DecodeShape shape{.sequences = q.size(0),
                                .kv_heads = k_cache.size(1),
                                .group = q.size(1) / k_cache.size(1),
                                .head_dim = q.size(2),
                                .capacity = k_cache.size(2),
                                .window = window,
                                .scale = static_cast<float>(scale)};
  if (!cuda::has_decode_attention(shape)) return std::nullopt;
  const at::Tensor dense_q = q.contiguous(), dense_k = k.contiguous(), dense_v = v.contiguous();
  at::Tensor out = at::empty_like(dense_q);
  cuda::decode_attention(dense_q.const_data_ptr(), dense_k.const_data_ptr(), dense_v.const_data_ptr(),
                         k_cache.data_ptr(), v_cache.data_ptr(), slots.const_data_ptr<int64_t>(),
                         lengths.const_data_ptr<int64_t>(), out.data_ptr(), shape, cuda::float_type(q),
                         cuda::stream_for(q));
  return out;
}

}  // namespace dsft::kernels
