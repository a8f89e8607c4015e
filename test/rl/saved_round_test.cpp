// What checkpoints keep of a round of sampling, for any number of ranks.
#include "rl/saved_round.h"

#include <torch/types.h>

#include <cmath>
#include <limits>

#include "catch_amalgamated.hpp"
#include "checkpoint/tensor_file.h"
#include "comm/thread_ranks.h"
#include "support/require_error.h"
#include "support/temp_dir.h"
#include "support/tiny_model.h"

namespace dsft::rl {
namespace {

constexpr int64_t kTokens = 97, kFirstSample = 16, kEpoch = 2;
constexpr RoundPlace kPlace{.epoch = kEpoch, .number = 1, .num_completions = 16};

enum class Kept { kAll, kNoReference };

/// Completions of a round, and what is known of their tokens.
struct Completions {
  std::vector<Document> documents = test::random_documents({9, 14, 20, 6, 11, 17, 5, 8}, kTokens, 3);
  std::vector<PolicyRow> rows = {{1.1f}, {-0.7f}, {0.3f, /*is_left_out=*/true},       {-1.2f},
                                 {0.9f}, {0.0f},  {0.4f, false, /*has_failed=*/true}, {2.0f}};
  std::vector<std::vector<at::Tensor>> log_probs;  // by the sampler, old, of the reference: of each document

  Completions() {
    for (Document& document : documents) document.sample += kFirstSample;
    for (const Document& document : documents) {
      const int64_t num_tokens = make_batch({document}, 0).supervised.numel();
      log_probs.push_back({-torch::rand({num_tokens}), -torch::rand({num_tokens}), -torch::rand({num_tokens})});
    }
  }

  Batch batch_of(const std::vector<int64_t>& samples, Kept kept) const {
    std::vector<Document> own;
    std::vector<PolicyRow> own_rows;
    std::vector<std::vector<at::Tensor>> own_log_probs(3);
    for (const int64_t sample : samples) {
      const auto place = static_cast<size_t>(sample - kFirstSample);
      own.push_back(documents[place]);
      own_rows.push_back(rows[place]);
      for (size_t i = 0; i < 3; ++i) own_log_probs[i].push_back(log_probs[place][i]);
    }
    Batch batch = make_batch(own, kEpoch);
    set_policy_rows(batch, own_rows);
    batch.policy->sampling_log_probs = torch::cat(own_log_probs[0]);
    batch.policy->old_log_probs = torch::cat(own_log_probs[1]);
    if (kept == Kept::kAll) batch.policy->reference_log_probs = torch::cat(own_log_probs[2]);
    return batch;
  }
};

void require_same(Batch given, Batch expected) {
  CHECK(given.boundaries == expected.boundaries);
  CHECK(given.longest == expected.longest);
  CHECK(given.epoch == expected.epoch);
  CHECK(at::equal(given.samples, expected.samples));
  const std::vector<at::Tensor*> tensors = given.device_tensors(), others = expected.device_tensors();
  REQUIRE(tensors.size() == others.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    INFO("tensor " << i);
    REQUIRE(tensors[i]->defined() == others[i]->defined());
    if (!tensors[i]->defined()) continue;
    CHECK(tensors[i]->scalar_type() == others[i]->scalar_type());
    CHECK(at::equal(*tensors[i], *others[i]));
  }
}

// Two completions, of 3 + 1 and of 1 + 2 tokens.
checkpoint::NamedTensors small_round() {
  const auto whole = [](std::vector<int64_t> values) { return torch::tensor(values, at::kLong); };
  return {{"round", whole({0, 1, 4})},
          {"temperature", torch::ones({1}, at::kDouble)},
          {"samples", whole({6, 5})},
          {"lengths", whole({4, 3})},
          {"completion_lengths", whole({1, 2})},
          {"ids", torch::tensor({1, 2, 3, 4, 5, 6, 7}, at::kInt)},
          {"advantages", torch::tensor({0.5f, -0.5f})},
          {"row_weights", torch::ones({2})},
          {"weights", torch::ones({3})},
          {"sampling_log_probs", torch::tensor({-1.0f, -2.0f, -3.0f})}};
}

}  // namespace

TEST_CASE("What two ranks have left of a round any other ranks read, to the bit", "[rl]") {
  const Completions completions;
  const Kept kept = GENERATE(Kept::kAll, Kept::kNoReference);
  const test::TempDir folder;
  const std::map<std::string, double> metrics = {{"reward", 0.1},
                                                 {"rewards/a/b: c/mean", std::numeric_limits<double>::quiet_NaN()}};
  comm::run_thread_ranks(2, [&](comm::Communicator& communicator) {
    const int64_t first = kFirstSample + 4 * communicator.rank();
    save_round(folder.path(), kPlace, 0.7,
               {completions.batch_of({first + 2, first}, kept), completions.batch_of({first + 1, first + 3}, kept)},
               metrics, communicator);
  });
  const auto saved = SavedRound::load(folder.path(), kTokens);
  REQUIRE(saved);
  CHECK(saved->round() == kPlace);
  CHECK(saved->temperature() == 0.7);
  CHECK(saved->has_old_log_probs());
  CHECK(saved->has_reference_log_probs() == (kept == Kept::kAll));
  CHECK(saved->metrics().size() == 2);
  CHECK(saved->metrics().at("reward") == 0.1);
  CHECK(std::isnan(saved->metrics().at("rewards/a/b: c/mean")));
  for (int64_t sample = kFirstSample; sample < kFirstSample + 8; ++sample) CHECK(saved->has(sample));
  CHECK_FALSE(saved->has(kFirstSample + 8));
  const std::vector<std::vector<int64_t>> micro_batches = {{18, 16}, {16, 20, 17, 23}, {22}, {21, 19, 18, 22}};
  for (const std::vector<int64_t>& samples : micro_batches)
    require_same(saved->batch_of(samples), completions.batch_of(samples, kept));
}

TEST_CASE("A checkpoint without a round has none", "[rl]") {
  const test::TempDir folder;
  CHECK_FALSE(SavedRound::load(folder.path(), kTokens));
}

TEST_CASE("A round that a stranger has written is refused in one sentence", "[rl]") {
  const test::TempDir folder;
  const auto write = [&](const checkpoint::NamedTensors& tensors) {
    checkpoint::write_tensors(folder / "round.safetensors", tensors);
  };
  write(small_round());
  const auto saved = SavedRound::load(folder.path(), 8);
  REQUIRE(saved);
  CHECK_FALSE(saved->has_old_log_probs());
  const Batch batch = saved->batch_of({5, 6});
  CHECK(at::equal(batch.ids, torch::tensor({5, 6, 7, 1, 2, 3, 4}, at::kLong)));
  CHECK(at::equal(batch.labels, torch::tensor({-100, 6, 7, -100, -100, -100, 4}, at::kLong)));
  CHECK(at::equal(batch.policy->sampling_log_probs, torch::tensor({-2.0f, -3.0f, -1.0f})));

  const auto numbers = [](std::vector<int64_t> values) { return torch::tensor(values, at::kLong); };
  constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
  struct Fault {
    std::string name;
    at::Tensor tensor;  // undefined: there is none
    std::string said;
  };
  const std::vector<Fault> faults = {
      {"round", numbers({0, 1}), "`round` is I64 [2], not I64 [3]"},
      {"temperature", {}, "lacks `temperature`"},
      {"samples", {}, "lacks `samples`"},
      {"samples", torch::ones({2}), "`samples` is F32 [2], not I64 [any number]"},
      {"samples", numbers({5, 5}), "has completion 5 twice"},
      {"samples", numbers({5}), "`lengths` is I64 [2], not I64 [1]"},
      {"lengths", numbers({4, 4}), "`lengths` gives completion 1 4 tokens, of 7 that all have"},
      {"lengths", numbers({kLargest, kLargest}), "`lengths` gives completion 0 9223372036854775807 tokens"},
      {"lengths", numbers({8, -1}), "`lengths` gives completion 0 8 tokens"},
      {"lengths", numbers({4, -1}), "`lengths` gives completion 1 -1 tokens"},
      {"lengths", numbers({4, 2}), "`lengths` adds up to 6 tokens, and 7 are there"},
      {"lengths", numbers({5, 2}), "completion 1 has no prompt"},
      {"completion_lengths", numbers({2, 2}), "`completion_lengths` gives completion 1 2 tokens, of 3 that all have"},
      {"ids", torch::tensor({1, 2, 3, 4, 5, 6, 8}, at::kInt), "has the id 8, and the model has 8 tokens"},
      {"ids", torch::tensor({1, 2, -3, 4, 5, 6, 7}, at::kInt), "has the id -3, and the model has 8 tokens"},
      {"ids", numbers({1, 2, 3, 4, 5, 6, 7}), "`ids` is I64 [7], not I32 [any number]"},
      {"advantages", torch::ones({1}), "`advantages` is F32 [1], not F32 [2]"},
      {"row_weights", torch::ones({2}, at::kDouble), "`row_weights` is F64 [2], not F32 [2]"},
      {"weights", torch::ones({3, 1}), "`weights` is F32 [3, 1], not F32 [any number]"},
      {"sampling_log_probs", torch::ones({4}), "`sampling_log_probs` is F32 [4], not F32 [3]"},
      {"old_log_probs", torch::ones({2}), "`old_log_probs` is F32 [2], not F32 [3]"},
      {"reference_log_probs", torch::ones({4}), "`reference_log_probs` is F32 [4], not F32 [3]"},
      {"metrics/reward", torch::ones({2}, at::kDouble), "`metrics/reward` is F64 [2], not F64 [1]"}};
  for (const Fault& fault : faults) {
    INFO(fault.said);
    checkpoint::NamedTensors tensors = small_round();
    std::erase_if(tensors, [&](const auto& entry) { return entry.first == fault.name; });
    if (fault.tensor.defined()) tensors.emplace_back(fault.name, fault.tensor);
    write(tensors);
    test::require_error(ErrorKind::kCheckpoint, {"round.safetensors", fault.said},
                        [&] { SavedRound::load(folder.path(), 8); });
  }
  folder.write("round.safetensors", "no safetensors");
  test::require_error(ErrorKind::kCheckpoint, {"round.safetensors"}, [&] { SavedRound::load(folder.path(), 8); });
}

}  // namespace dsft::rl
