#include "kernels/decode_attention.h"

#include <torch/types.h>

#include "catch_amalgamated.hpp"

using namespace dsft;

TEST_CASE(
    "Decode attention on the CPU agrees with LibTorch's in float64 for groups, odd lengths, any slots and a window",
    "[kernels]") {
  torch::manual_seed(2);
  const int64_t num_kv_heads = 2, group = GENERATE(1, 3), size = 16, window = GENERATE(0, 5);
  const auto type = GENERATE(at::kFloat, at::kBFloat16, at::kHalf);
  const std::vector<int64_t> slots = {4, 0, 2}, lengths = {1, 37, 18};
  const at::Tensor q = torch::randn({3, num_kv_heads * group, size}).to(type);
  const at::Tensor k = torch::randn({5, num_kv_heads, 40, size}).to(type), v = torch::randn_like(k);
  const at::Tensor actual = kernels::decode_attention(q, k, v, slots, lengths, 0.3, window);
  const at::Tensor expected = kernels::decode_attention_reference(q.to(at::kDouble), k.to(at::kDouble),
                                                                  v.to(at::kDouble), slots, lengths, 0.3, window);
  REQUIRE(actual.scalar_type() == type);
  const double bound = type == at::kFloat ? 2e-6 : type == at::kHalf ? 2e-3 : 1e-2;
  CHECK((actual.to(at::kDouble) - expected).abs().max().item<double>() < bound);
}

TEST_CASE("Decode attention of one sequence equals plain attention to its keys", "[kernels]") {
  torch::manual_seed(3);
  const at::Tensor q = torch::randn({1, 4, 8}), k = torch::randn({1, 2, 12, 8}), v = torch::randn({1, 2, 12, 8});
  const at::Tensor out = kernels::decode_attention(q, k, v, {0}, {9}, 0.5);
  for (int64_t head = 0; head < 4; ++head) {
    const at::Tensor keys = k[0][head / 2].narrow(0, 0, 9), values = v[0][head / 2].narrow(0, 0, 9);
    const at::Tensor expected = at::matmul(at::softmax(at::mv(keys, q[0][head]) * 0.5, 0), values);
    CHECK((out[0][head] - expected).abs().max().item<double>() < 2e-6);
  }
}
