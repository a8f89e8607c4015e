#include "nn/embedding.h"

#include <torch/types.h>

#include <limits>

#include "catch_amalgamated.hpp"
#include "nn/leaf_gradient.h"

using namespace dsft;

namespace {

constexpr int64_t kVocabSize = 11, kSize = 6;

nn::Embedding random_table(at::ScalarType type) {
  nn::Embedding table(kVocabSize, kSize, at::TensorOptions(type));
  at::Tensor weight = table.weight();
  weight.copy_(torch::randn({kVocabSize, kSize}));
  weight.requires_grad_(true);
  return table;
}

}  // namespace

TEST_CASE("The gradient of an embedding is autograd's, with ids that repeat", "[nn]") {
  torch::manual_seed(1);
  const auto type = GENERATE(at::kDouble, at::kFloat, at::kBFloat16);
  const nn::Embedding table = random_table(type);
  const at::Tensor ids = torch::tensor({3, 0, 3, 10, 3, 0}, at::kLong), gradient = torch::randn({6, kSize}).to(type);
  const at::Tensor reference = table.weight().detach().to(at::kDouble).requires_grad_(true);
  torch::embedding(reference, ids).backward(gradient.to(at::kDouble));
  const at::Tensor vectors = table.forward(ids);
  CHECK(torch::equal(vectors.detach(), table.weight().detach().index_select(0, ids)));
  vectors.backward(gradient);
  const at::Tensor actual = table.weight().grad();
  CHECK(actual.scalar_type() == type);
  const double bound = type == at::kBFloat16 ? 0.02 : 1e-6;
  CHECK((actual.to(at::kDouble) - reference.grad()).abs().max().item<double>() < bound);
}

TEST_CASE("Where there is an fp32 sum already an embedding adds to its rows", "[nn]") {
  torch::manual_seed(2);
  const nn::Embedding table = random_table(at::kFloat);
  at::Tensor weight = table.weight(), sum = torch::randn({kVocabSize, kSize});
  const at::Tensor before = sum.clone(), ids = torch::tensor({4, 4, 9}, at::kLong), gradient = torch::randn({3, kSize});
  weight.mutable_grad() = sum;
  table.forward(ids).backward(gradient);
  CHECK(weight.grad().data_ptr() == sum.data_ptr());
  CHECK(torch::allclose(sum, before.index_add(0, ids, gradient)));
}

TEST_CASE("Where a place is offered an embedding writes all of it, rows that nobody looked up as zeros", "[nn]") {
  torch::manual_seed(3);
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  const nn::Embedding table = random_table(type);
  const at::Tensor place = torch::full({kVocabSize, kSize}, std::numeric_limits<float>::quiet_NaN());
  const at::Tensor ids = torch::tensor({4, 4, 9}, at::kLong), gradient = torch::randn({3, kSize}).to(type);
  nn::offer_gradient(table.weight(), place);
  table.forward(ids).backward(gradient);
  CHECK(table.weight().grad().is_same(place));
  CHECK(torch::allclose(place, torch::zeros({kVocabSize, kSize}).index_add(0, ids, gradient.to(at::kFloat))));
}

TEST_CASE("A frozen embedding makes no node", "[nn]") {
  const nn::Embedding table(kVocabSize, kSize, at::TensorOptions(at::kFloat));
  CHECK_FALSE(table.forward(torch::tensor({1, 2}, at::kLong)).requires_grad());
}
