#include "kernels/decode_attention.h"

#include <torch/types.h>

#include "catch_amalgamated.hpp"

using namespace dsft;
using kernels::kPageTokens;

TEST_CASE("Decode attention agrees with LibTorch's in float64 for groups, odd lengths, scattered pages and a window",
          "[kernels]") {
  torch::manual_seed(2);
  const int64_t num_kv_heads = 2, group = GENERATE(1, 3), size = 16, window = GENERATE(0, 5, 70);
  const auto type = GENERATE(at::kFloat, at::kBFloat16, at::kHalf);
  const kernels::PagedSequences sequences{
      torch::tensor({4, 0, 0, 1, 5, 2, 3, 0, 0}, at::kLong).to(at::kInt).view({3, 3}),
      torch::tensor({int64_t{1}, 2 * kPageTokens + 9, kPageTokens}, at::kLong)};
  const at::Tensor q = torch::randn({3, num_kv_heads * group, size}).to(type),
                   k = torch::randn({3, num_kv_heads, size}).to(type), v = torch::randn_like(k);
  const at::Tensor keys = torch::randn({6, num_kv_heads, kPageTokens, size}).to(type), values = torch::randn_like(keys);
  at::Tensor k_cache = keys.clone(), v_cache = values.clone();
  const at::Tensor actual = kernels::append_and_attend({q, k, v}, {k_cache, v_cache, sequences}, 0.3, window);
  at::Tensor wide_keys = keys.to(at::kDouble), wide_values = values.to(at::kDouble);
  const at::Tensor expected = kernels::append_and_attend_reference(
      {q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble)}, {wide_keys, wide_values, sequences}, 0.3, window);
  REQUIRE(actual.scalar_type() == type);
  const double bound = type == at::kFloat ? 2e-6 : type == at::kHalf ? 2e-3 : 1e-2;
  CHECK((actual.to(at::kDouble) - expected).abs().max().item<double>() < bound);
  CHECK(k_cache.to(at::kDouble).equal(wide_keys));
  CHECK(v_cache.to(at::kDouble).equal(wide_values));
}

TEST_CASE("Decode attention of one sequence equals plain attention to its keys", "[kernels]") {
  torch::manual_seed(3);
  const at::Tensor q = torch::randn({1, 4, 8}), all_keys = torch::randn({70, 2, 8}),
                   all_values = torch::randn({70, 2, 8});
  at::Tensor keys = torch::full({3, 2, kPageTokens, 8}, NAN), values = torch::full_like(keys, NAN);
  const at::Tensor token = torch::arange(69);
  const at::Tensor pages = torch::where(token.lt(kPageTokens), 2, 1), offsets = token.remainder(kPageTokens);
  kernels::append_rows(all_keys.narrow(0, 0, 69), keys, pages, offsets);
  kernels::append_rows(all_values.narrow(0, 0, 69), values, pages, offsets);
  const bool uses_reference = GENERATE(false, true);
  const auto attend = uses_reference ? kernels::append_and_attend_reference : kernels::append_and_attend;
  const at::Tensor out = attend(
      {q, all_keys.narrow(0, 69, 1), all_values.narrow(0, 69, 1)},
      {keys, values, {torch::tensor({2, 1}, at::kLong).to(at::kInt).view({1, 2}), torch::tensor({70}, at::kLong)}}, 0.5,
      0);
  for (int64_t head = 0; head < 4; ++head) {
    const at::Tensor expected = at::matmul(at::softmax(at::mv(all_keys.select(1, head / 2), q[0][head]) * 0.5, 0),
                                           all_values.select(1, head / 2));
    CHECK((out[0][head] - expected).abs().max().item<double>() < 2e-6);
  }
}

TEST_CASE("A decoding step from packed projections turns the heads, appends and attends", "[kernels]") {
  torch::manual_seed(5);
  const kernels::PackedHeads heads{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8};
  const at::Tensor qkv = torch::randn({3, heads.width()}), angle = torch::rand({3, 4}) * 6;
  const kernels::HeadNorms norms{torch::rand({8}) + 0.5, torch::rand({8}) + 0.5, 1e-6};
  const kernels::RotaryAngles angles{angle.cos(), angle.sin()};
  const kernels::PagedSequences sequences{torch::tensor({2, 0, 1}, at::kLong).to(at::kInt).view({3, 1}),
                                          torch::tensor({5, 1, 64}, at::kLong)};
  at::Tensor keys = torch::randn({3, 2, kPageTokens, 8}), values = torch::randn_like(keys);
  at::Tensor other_keys = keys.clone(), other_values = values.clone();
  const at::Tensor out =
      kernels::rotary_append_and_attend(qkv, heads, norms, angles, {keys, values, sequences}, 0.4, 7);
  const kernels::Heads turned = kernels::rotate_heads(qkv, heads, norms, angles);
  const at::Tensor expected =
      kernels::append_and_attend_reference(turned, {other_keys, other_values, sequences}, 0.4, 7);
  REQUIRE(out.sizes() == at::IntArrayRef({3, 32}));
  CHECK((out - expected.reshape({3, 32})).abs().max().item<double>() < 2e-6);
  CHECK(keys.equal(other_keys));
  CHECK(values.equal(other_values));
}
