// The CUDA kernels of decoding against the reference in float64.
#include <torch/types.h>

#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "kernels/decode_attention.h"
#include "kernels/rotary_attention.h"
#include "support/on_gpu.h"

using namespace dsft;
using namespace dsft::kernels;
using test::kGpu;
using test::largest;

namespace {

// Three sequences in a cache of six pages, its places behind their ends NaN, and the same in float64.
struct DecodingStep {
  DecodingStep(int64_t kv_heads, int64_t head_dim, at::ScalarType type)
      : sequences{torch::tensor({4, 0, 0, 1, 5, 2, 3, 0, 0}, at::kLong).to(at::kInt).view({3, 3}).to(kGpu),
                  torch::tensor({int64_t{1}, 2 * kPageTokens + 9, kPageTokens}, at::kLong).to(kGpu)},
        keys(torch::randn({6, kv_heads, kPageTokens, head_dim}, at::TensorOptions(type).device(kGpu))),
        values(torch::randn_like(keys)) {
    for (at::Tensor* cache : {&keys, &values}) {
      cache->select(0, 4).fill_(NAN);
      cache->select(0, 2).narrow(1, 9, kPageTokens - 9).fill_(NAN);
    }
    wide_keys = keys.to(at::kDouble);
    wide_values = values.to(at::kDouble);
  }
  PagedKeys wide() const { return {wide_keys, wide_values, sequences}; }
  PagedKeys repeated(int64_t copies) const {
    return {keys, values, {sequences.pages.repeat({copies, 1}), sequences.lengths.repeat({copies})}};
  }

  PagedSequences sequences;
  at::Tensor keys, values, wide_keys, wide_values;
};

}  // namespace

TEST_CASE("CUDA: a decoding step writes its tokens and attends as the reference does", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(6);
  const int64_t group = GENERATE(1, 2, 7, 8), head_dim = GENERATE(64, 128), window = GENERATE(0, 5, 90), kv_heads = 3;
  const auto type = GENERATE(at::kFloat, at::kBFloat16, at::kHalf);
  INFO("groups of " << group << ", heads of " << head_dim << ", window " << window << ", " << c10::toString(type));
  const int64_t copies = GENERATE(1, 60);  // few sequences are cut into parts, many are not
  const DecodingStep step(kv_heads, head_dim, type);
  const at::Tensor q = torch::randn({3, kv_heads * group, head_dim}, step.keys.options()),
                   k = torch::randn({3, kv_heads, head_dim}, step.keys.options()), v = torch::randn_like(k);
  const at::Tensor expected =
      append_and_attend_reference({q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble)}, step.wide(), 0.2, window);
  const auto repeat = [&](const at::Tensor& rows) { return rows.repeat({copies, 1, 1}); };
  const at::Tensor out =
      append_and_attend({repeat(q), repeat(k), repeat(v)}, step.repeated(copies), 0.2, window).to(at::kDouble);
  CHECK(at::allclose(step.keys.to(at::kDouble), step.wide_keys, 0, 0, /*equal_nan=*/true));
  CHECK(at::allclose(step.values.to(at::kDouble), step.wide_values, 0, 0, /*equal_nan=*/true));
  const double bound = type == at::kFloat ? 2e-5 : type == at::kHalf ? 2e-3 : 1e-2;
  CHECK(largest(out - repeat(expected)) < bound * std::max(1.0, largest(expected)));
}

TEST_CASE("CUDA: rows of prompts go to their places in the cache, and nowhere else", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(13);
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  const int64_t tokens = GENERATE(0, 1, 150), kv_heads = 3, head_dim = GENERATE(8, 128);
  const at::Tensor packed = torch::randn({tokens, 2 * kv_heads * head_dim}).to(type);  // rows that lie apart
  const at::Tensor rows = packed.narrow(1, kv_heads * head_dim, kv_heads * head_dim).view({tokens, kv_heads, head_dim});
  const at::Tensor places = torch::randperm(4 * kPageTokens, at::kLong).narrow(0, 0, tokens),
                   pages = places.div(kPageTokens, "floor"), offsets = places.remainder(kPageTokens);
  at::Tensor expected = torch::randn({4, kv_heads, kPageTokens, head_dim}).to(type), actual = expected.to(kGpu);
  append_rows(rows, expected, pages, offsets);
  append_rows(packed.to(kGpu).narrow(1, kv_heads * head_dim, kv_heads * head_dim).view({tokens, kv_heads, head_dim}),
              actual, pages.to(kGpu), offsets.to(kGpu));
  CHECK(torch::equal(actual.cpu(), expected));
}

TEST_CASE("CUDA: a decoding step turns the heads of packed projections itself", "[kernels][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(7);
  const PackedHeads heads{.num_heads = GENERATE(2, 10), .num_kv_heads = 2, .head_dim = GENERATE(64, 128)};
  const auto type = GENERATE(at::kFloat, at::kBFloat16, at::kHalf);
  const int64_t copies = GENERATE(1, 100);
  const bool has_norms = GENERATE(false, true);
  INFO(heads.num_heads << " heads of " << heads.head_dim << ", " << c10::toString(type) << ", norms " << has_norms);
  const DecodingStep step(heads.num_kv_heads, heads.head_dim, type);
  const auto options = step.keys.options();
  const at::Tensor qkv = torch::randn({3, heads.width()}, options);
  HeadNorms norms, wide_norms;
  if (has_norms) {
    norms = {torch::rand({heads.head_dim}, options) + 0.5, torch::rand({heads.head_dim}, options) + 0.5, 1e-6};
    wide_norms = {norms.q.to(at::kDouble), norms.k.to(at::kDouble), 1e-6};
  }
  const at::Tensor angle = torch::rand({3, heads.head_dim / 2}, options.dtype(at::kFloat)) * 6;
  const RotaryAngles angles{angle.cos(), angle.sin()};
  const at::Tensor expected =
      rotary_append_and_attend(qkv.to(at::kDouble), heads, wide_norms, angles, step.wide(), 0.2);
  const at::Tensor out = rotary_append_and_attend(qkv.repeat({copies, 1}), heads, norms,
                                                  {angles.cos.repeat({copies, 1}), angles.sin.repeat({copies, 1})},
                                                  step.repeated(copies), 0.2)
                             .to(at::kDouble);
  const double bound = type == at::kFloat ? 2e-5 : type == at::kHalf ? 2e-3 : 1e-2;
  CHECK(largest(out - expected.repeat({copies, 1})) < bound * std::max(1.0, largest(expected)));
  CHECK(at::allclose(step.keys.to(at::kDouble), step.wide_keys, bound, bound, /*equal_nan=*/true));
  CHECK(at::allclose(step.values.to(at::kDouble), step.wide_values, 0, 0, /*equal_nan=*/true));
}
