#include "batch/padded_batch.h"

#include <torch/types.h>

#include "catch_amalgamated.hpp"

using namespace dsft;

namespace {

/// Documents of these lengths; their first token is not supervised, nor is every fifth.
Batch batch_of(const std::vector<int64_t>& lengths) {
  std::vector<Document> documents;
  for (const int64_t length : lengths) {
    Document document;
    for (int64_t i = 0; i < length; ++i) {
      document.ids.push_back(static_cast<int32_t>(10 * length + i));
      document.labels.push_back(i % 5 == 4 ? -100 : document.ids.back());
    }
    document.sample = 100 + length;
    documents.push_back(document);
  }
  return make_batch(documents, 3);
}

std::vector<int64_t> list_of(const at::Tensor& tensor) {
  const at::Tensor wide = tensor.to(at::kLong).contiguous();
  return {wide.const_data_ptr<int64_t>(), wide.const_data_ptr<int64_t>() + wide.numel()};
}

}  // namespace

TEST_CASE("Shapes are few: an eighth of a power of two for tokens, a quarter of those for supervised ones", "[batch]") {
  CHECK(padded_shape(batch_of({5})) == PaddedShape{.tokens = 64, .documents = 2, .supervised = 16, .longest = 64});
  CHECK(padded_shape(batch_of({64})) == PaddedShape{.tokens = 64, .documents = 1, .supervised = 64, .longest = 64});
  CHECK(padded_shape(batch_of({700})).tokens == 704);
  CHECK(padded_shape(batch_of({1025})).tokens == 1152);
  CHECK(padded_shape(batch_of({3100})) ==
        PaddedShape{.tokens = 3328, .documents = 2, .supervised = 2496, .longest = 4096});
  CHECK(padded_shape(batch_of({300, 20, 20, 100})).documents == 8);
}

TEST_CASE("A padded batch keeps its tokens and gets a document that is not supervised", "[batch]") {
  const Batch batch = batch_of({7, 12, 3});
  const PaddedShape shape = padded_shape(batch);
  const Batch padded = pad_batch(batch, shape);
  const int64_t count = batch.num_tokens(), missing = shape.tokens - count;
  CHECK(padded.ids.size(0) == shape.tokens);
  CHECK(torch::equal(padded.ids.narrow(0, 0, count), batch.ids));
  CHECK(torch::equal(padded.labels.narrow(0, 0, count), batch.labels));
  CHECK(torch::equal(padded.positions.narrow(1, 0, count), batch.positions));
  CHECK(torch::equal(padded.sample_keys.narrow(0, 0, count), batch.sample_keys));
  CHECK(padded.labels.narrow(0, count, missing).eq(-100).all().item<bool>());
  CHECK(torch::equal(padded.positions[0].narrow(0, count, missing), torch::arange(missing, at::kLong)));
  CHECK(padded.boundaries == std::vector<int64_t>{0, 7, 19, 22, 64});
  CHECK(list_of(padded.starts) == padded.boundaries);
  CHECK(padded.longest == 64);
  CHECK(padded.epoch == 3);
}

TEST_CASE("Supervised tokens that fill a shape are real ones with weight 0", "[batch]") {
  const Batch batch = batch_of({7, 12});
  const Batch padded = pad_batch(batch, padded_shape(batch));
  const int64_t count = batch.supervised.numel();
  REQUIRE(padded.supervised.numel() == 16);
  CHECK(torch::equal(padded.supervised.narrow(0, 0, count), batch.supervised));
  CHECK(padded.labels.index_select(0, padded.supervised).ne(-100).all().item<bool>());
  CHECK(padded.weights.sum().item<float>() == static_cast<float>(count));
  CHECK(padded.weights.narrow(0, 0, count).eq(1).all().item<bool>());
}

TEST_CASE("Documents that fill a shape without a token to spare are empty", "[batch]") {
  const Batch batch = batch_of({40, 20, 4});
  const Batch padded = pad_batch(batch, padded_shape(batch));
  CHECK(padded.boundaries == std::vector<int64_t>{0, 40, 60, 64, 64});
  CHECK(torch::equal(padded.ids, batch.ids));
}

TEST_CASE("A buffer holds one batch after another at the same addresses", "[batch]") {
  const Batch first = batch_of({7, 12}), second = batch_of({11, 9});
  const PaddedShape shape = padded_shape(first);
  REQUIRE(padded_shape(second) == shape);
  BatchBuffer buffer(pad_batch(first, shape), at::kCPU);
  std::vector<const void*> places;
  for (const Batch& batch : {first, second}) {
    Batch expected = pad_batch(batch, shape);
    Batch held = buffer.load(expected);
    CHECK(held.boundaries == expected.boundaries);
    std::vector<const void*> now;
    for (size_t i = 0; i < expected.device_tensors().size(); ++i) {
      const at::Tensor &is = *held.device_tensors()[i], &should_be = *expected.device_tensors()[i];
      CHECK(torch::equal(is, should_be));
      now.push_back(is.const_data_ptr());
    }
    if (!places.empty()) CHECK(now == places);
    places = now;
  }
  CHECK_THROWS(buffer.load(second));  // not padded
}

namespace {

Batch policy_batch_of(const std::vector<int64_t>& lengths, float first_log_prob) {
  Batch batch = batch_of(lengths);
  std::vector<PolicyRow> rows;
  for (size_t d = 0; d < lengths.size(); ++d)
    rows.push_back({.advantage = static_cast<float>(d) - 0.5f, .is_left_out = d == 1});
  set_policy_rows(batch, rows);
  batch.policy->old_log_probs = torch::arange(batch.supervised.numel(), at::kFloat) + first_log_prob;
  return batch;
}

}  // namespace

TEST_CASE("Each document is a row of the policy, and one that is left out weighs nothing", "[batch]") {
  const Batch batch = policy_batch_of({7, 12, 3}, 0);  // supervised: positions 1, 2, 3, 5, 6; 9 of 12; 2 of 3
  CHECK(list_of(batch.policy->row_starts) == std::vector<int64_t>{0, 5, 14, 16});
  CHECK(list_of(batch.policy->rows) == std::vector<int64_t>{0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2});
  CHECK(list_of(batch.weights) == std::vector<int64_t>{1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1});
  CHECK(batch.policy->advantages.equal(torch::tensor({-0.5f, 0.5f, 1.5f})));
  CHECK(batch.policy->row_weights.eq(1).all().item<bool>());
}

TEST_CASE("Padding puts a policy's repeated tokens behind its rows, and other members make another shape", "[batch]") {
  const Batch batch = policy_batch_of({7, 12, 4}, -40);
  const PaddedShape shape = padded_shape(batch);
  const Batch padded = pad_batch(batch, shape);
  const int64_t count = batch.supervised.numel();
  REQUIRE(padded.supervised.numel() > count);
  CHECK(list_of(padded.policy->row_starts) == std::vector<int64_t>{0, 5, 14, count, count});
  CHECK(padded.policy->row_weights.equal(torch::tensor({1.f, 1.f, 1.f, 0.f})));
  CHECK(padded.policy->rows.numel() == padded.supervised.numel());
  CHECK(padded.policy->old_log_probs.narrow(0, 0, count).equal(batch.policy->old_log_probs));
  CHECK_FALSE(padded.policy->reference_log_probs.defined());
  Batch with_reference = batch;
  with_reference.policy->reference_log_probs = batch.policy->old_log_probs;
  CHECK(padded_shape(with_reference) != shape);
  CHECK(padded_shape(batch_of({7, 12, 4})) != shape);

  BatchBuffer buffer(padded, at::kCPU);
  const Batch next = pad_batch(policy_batch_of({7, 12, 4}, 3), shape);
  const Batch& loaded = buffer.load(next);
  CHECK(loaded.policy->old_log_probs.equal(next.policy->old_log_probs));
  CHECK_FALSE(loaded.policy->sampling_log_probs.defined());
  CHECK(batch.to(at::kCPU).policy->old_log_probs.equal(batch.policy->old_log_probs));
}
