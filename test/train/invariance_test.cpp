// numerics.md: rows, packing, micro-batch split, rank count, recomputation and resuming do not change a run.
#include <cmath>

#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "support/unwritten_is_nan.h"
#include "train/tiny_run.h"

using namespace dsft;
using namespace dsft::test;

namespace {

void require_same_curve(const Run& actual, const Run& expected, double bound) {
  REQUIRE(actual.reports.size() == expected.reports.size());
  for (size_t i = 0; i < expected.reports.size(); ++i) {
    INFO("step " << i + 1);
    CHECK(std::abs(actual.reports[i].loss / expected.reports[i].loss - 1) <= bound);
    CHECK(std::abs(actual.reports[i].grad_norm / expected.reports[i].grad_norm - 1) <= bound);
    CHECK(actual.reports[i].learning_rate == expected.reports[i].learning_rate);
    CHECK(actual.reports[i].num_tokens == expected.reports[i].num_tokens);
  }
}

}  // namespace

TEST_CASE("A run learns: its loss falls", "[train]") {
  Setting setting;
  setting.trained = GENERATE(Trained::kLora, Trained::kAll);
  const Run run = run_training(setting);
  REQUIRE(run.reports.size() == 20);
  CHECK(run.reports.back().loss < run.reports.front().loss - 0.2);
  CHECK(run.reports.front().learning_rate == 0);  // warm-up starts at zero
}

TEST_CASE("The micro-batch split does not change a run", "[train]") {
  Setting whole, split;
  whole.trained = split.trained = GENERATE(Trained::kLora, Trained::kAll);
  whole.dropout = split.dropout = GENERATE(0.0, 0.05);
  whole.batch_size = 8;
  split.batch_size = 2;
  split.accumulation = 4;
  require_same_curve(run_training(split), run_training(whole), kBound);
}

TEST_CASE("Recomputation does not change a run by a bit", "[train]") {
  Setting kept, recomputed;
  recomputed.recompute = true;
  kept.trained = recomputed.trained = GENERATE(Trained::kLora, Trained::kAll);
  require_same_curve(run_training(recomputed), run_training(kept), 0);
}

TEST_CASE("Packing does not change a run whose updates hold the same rows", "[train]") {
  Setting rows, packed;
  rows.dropout = packed.dropout = GENERATE(0.0, 0.05);
  rows.batch_size = packed.batch_size = 24;  // an update is an epoch
  packed.packing = true;
  require_same_curve(run_training(packed), run_training(rows), kBound);
}

TEST_CASE("Neither the number of ranks nor the stage changes a run, and ranks stay equal bit for bit", "[train]") {
  Setting one, several;
  several.stage = GENERATE(0, 1, 2, 3);
  several.recompute = GENERATE(false, true);
  one.trained = several.trained = GENERATE(Trained::kLora, Trained::kAll);
  one.dropout = several.dropout = GENERATE(0.0, 0.05);
  const int num_ranks = GENERATE(2, 3);  // 3 does not divide the update: a rank runs short
  one.batch_size = 12;
  several.batch_size = 12 / num_ranks;
  one.num_rows = several.num_rows = 28;  // the epoch's last update is short
  const UnwrittenIsNan unwritten;
  const Run expected = run_training(one);
  REQUIRE(torch::empty({3}).isnan().all().item<bool>());
  std::vector<Run> runs(num_ranks);
  test::TempDir output;
  const auto rows = std::make_shared<MemoryStore>(several.num_rows, kVocabSize);
  comm::run_thread_ranks(num_ranks, [&](comm::Communicator& communicator) {
    runs[communicator.rank()] = train_rank(several, rows, communicator, output.path());
  });
  require_same_curve(runs[0], expected, kBound);
  for (int rank = 1; rank < num_ranks; ++rank)
    for (size_t i = 0; i < runs[0].weights.size(); ++i) CHECK(torch::equal(runs[0].weights[i], runs[rank].weights[i]));
}

TEST_CASE("What lies in host memory changes no run, on any number of ranks", "[train][slow]") {
  struct Offload {
    int64_t stage;
    bool state, parameters;
  };
  const Offload offload = GENERATE(Offload{1, true, false}, Offload{2, true, false}, Offload{3, true, false},
                                   Offload{3, true, true}, Offload{3, false, true});
  Setting plain, several;
  plain.trained = several.trained = GENERATE(Trained::kLora, Trained::kSavedHead, Trained::kAll);
  if (plain.trained == Trained::kLora && !offload.parameters) return;  // nothing is offloaded
  several.stage = offload.stage;
  several.offloads_state = offload.state;
  several.offloads_parameters = offload.parameters;
  const int num_ranks = GENERATE(1, 2);
  several.recompute = num_ranks == 2;
  plain.batch_size = 12;
  several.batch_size = 6 / num_ranks;
  several.accumulation = 2;
  plain.num_rows = several.num_rows = 28;  // the epoch's last update is short
  INFO("stage " << offload.stage << (offload.state ? ", optimizer" : "") << (offload.parameters ? ", parameters" : "")
                << ", " << num_ranks << " ranks, trained: " << static_cast<int>(plain.trained));
  const Run expected = run_training(plain);
  std::vector<Run> runs(num_ranks);
  test::TempDir output;
  const auto rows = std::make_shared<MemoryStore>(several.num_rows, kVocabSize);
  comm::run_thread_ranks(num_ranks, [&](comm::Communicator& communicator) {
    runs[communicator.rank()] = train_rank(several, rows, communicator, output.path());
  });
  require_same_curve(runs[0], expected, kBound);
  for (size_t i = 0; i < expected.weights.size(); ++i)
    CHECK(torch::allclose(runs[0].weights[i], expected.weights[i], 1e-4, 1e-5));
}

TEST_CASE("Stages, accumulation and clipping keep the curve of a tied embedding, also between frozen weights",
          "[train]") {
  Setting one, several;
  one.trained = several.trained = GENERATE(Trained::kAll, Trained::kBetweenFrozen);
  several.stage = GENERATE(0, 1, 2, 3);
  one.batch_size = 12;
  several.batch_size = 2;
  several.accumulation = 3;
  INFO("stage " << several.stage << ", trained: " << static_cast<int>(one.trained));
  const Run expected = run_training(one);
  CHECK(expected.reports.front().grad_norm > 1);  // clipped to 1
  std::vector<Run> runs(2);
  test::TempDir output;
  const auto rows = std::make_shared<MemoryStore>(several.num_rows, kVocabSize);
  comm::run_thread_ranks(2, [&](comm::Communicator& communicator) {
    runs[communicator.rank()] = train_rank(several, rows, communicator, output.path());
  });
  require_same_curve(runs[0], expected, kBound);
  for (size_t i = 0; i < runs[0].weights.size(); ++i) CHECK(torch::equal(runs[0].weights[i], runs[1].weights[i]));
}

TEST_CASE("Ranks without a row in the last update change nothing, whatever is trained", "[train]") {
  Setting one, several;
  one.trained = several.trained = GENERATE(Trained::kLora, Trained::kLoraOnHead, Trained::kSavedHead, Trained::kAll);
  one.model = several.model = GENERATE(as<std::string>(), "llama_plain", "qwen3");  // untied and tied
  several.stage = GENERATE(1, 3);                                                   // with adapters alone 1 is stage 0
  one.max_steps = several.max_steps = 6;
  one.num_rows = several.num_rows = 25;  // the epoch's last update has one row
  one.batch_size = 12;
  several.batch_size = 4;
  INFO(one.model << ", trained: " << static_cast<int>(one.trained));
  const Run expected = run_training(one);
  std::vector<Run> runs(3);
  test::TempDir output;
  const auto rows = std::make_shared<MemoryStore>(several.num_rows, kVocabSize);
  comm::run_thread_ranks(3, [&](comm::Communicator& communicator) {
    runs[communicator.rank()] = train_rank(several, rows, communicator, output.path());
  });
  require_same_curve(runs[0], expected, kBound);
}

TEST_CASE("Ten steps, saved and continued for ten, equal twenty bit for bit", "[train]") {
  Setting whole, first, second;
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  whole.trained = first.trained = second.trained = GENERATE(Trained::kLora, Trained::kAll);
  whole.dtype = first.dtype = second.dtype = dtype;
  first.max_steps = 10;
  first.save_steps = 5;
  second.resume = true;
  test::TempDir output;
  const Run expected = run_training(whole);
  run_training(first, output.path());
  const Run continued = run_training(second, output.path());
  REQUIRE(continued.reports.size() == 10);
  for (size_t i = 0; i < 10; ++i) {
    INFO("step " << 11 + i);
    CHECK(continued.reports[i].step == expected.reports[10 + i].step);
    CHECK(continued.reports[i].loss == expected.reports[10 + i].loss);
    CHECK(continued.reports[i].grad_norm == expected.reports[10 + i].grad_norm);
  }
  for (size_t i = 0; i < expected.weights.size(); ++i) CHECK(torch::equal(continued.weights[i], expected.weights[i]));
}

TEST_CASE("A run goes on with another number of ranks as if nothing had been", "[train][slow]") {
  const auto rows = std::make_shared<MemoryStore>(28, kVocabSize);
  Setting part;
  part.num_rows = 28;
  part.trained = GENERATE(Trained::kLora, Trained::kAll);
  part.stage = part.trained == Trained::kAll ? GENERATE(0, 2, 3) : GENERATE(0, 3);
  part.batch_size = 12;
  const Run expected = run_training(part);
  TempDir output;
  std::vector<train::StepReport> reports;
  int64_t end = 0;
  for (const int num_ranks : {2, 1, 3}) {
    part.batch_size = 12 / num_ranks;
    part.max_steps = end = std::min<int64_t>(end + 7, 20);
    part.resume = num_ranks != 2;
    std::vector<Run> runs(num_ranks);
    comm::run_thread_ranks(num_ranks, [&](comm::Communicator& communicator) {
      runs[communicator.rank()] = train_rank(part, rows, communicator, output.path());
    });
    reports.insert(reports.end(), runs[0].reports.begin(), runs[0].reports.end());
  }
  Run actual;
  actual.reports = reports;
  require_same_curve(actual, expected, kBound);
}

TEST_CASE("A run goes on with other offloads and another number of ranks as if nothing had been", "[train][slow]") {
  const auto rows = std::make_shared<MemoryStore>(28, kVocabSize);
  Setting part;
  part.num_rows = 28;
  part.trained = GENERATE(Trained::kSavedHead, Trained::kAll);
  part.batch_size = 12;
  const Run expected = run_training(part);
  TempDir output;
  Run actual;
  struct Leg {
    int num_ranks;
    int64_t stage, end;
    bool offloads_state, offloads_parameters;
  };
  for (const Leg& leg : {Leg{2, 2, 5, true, false}, Leg{1, 0, 9, false, false}, Leg{3, 3, 14, true, true},
                         Leg{1, 3, 17, false, true}, Leg{2, 1, 20, true, false}}) {
    part.batch_size = 12 / leg.num_ranks;
    part.stage = leg.stage;
    part.offloads_state = leg.offloads_state;
    part.offloads_parameters = leg.offloads_parameters;
    part.max_steps = leg.end;
    std::vector<Run> runs(leg.num_ranks);
    comm::run_thread_ranks(leg.num_ranks, [&](comm::Communicator& communicator) {
      runs[communicator.rank()] = train_rank(part, rows, communicator, output.path());
    });
    part.resume = true;
    actual.reports.insert(actual.reports.end(), runs[0].reports.begin(), runs[0].reports.end());
  }
  require_same_curve(actual, expected, kBound);
}

TEST_CASE("fp16 trains with a dynamic loss scale", "[train]") {
  Setting setting;
  setting.dtype = at::kHalf;
  setting.trained = GENERATE(Trained::kLora, Trained::kAll);
  const Run run = run_training(setting);
  CHECK(run.reports.back().loss < run.reports.front().loss - 0.2);
  CHECK(run.reports.front().loss_scale == 65536);
}

TEST_CASE("On a GPU split, packing, recomputation and resuming change a run no more than rounding does",
          "[train][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);  // 16 bits go by cuDNN's attention
  // in bf16 the weights themselves are rounded in each update
  const double bound = dtype == at::kFloat ? 1e-4 : 0.05;
  Setting rows;
  rows.device = at::Device(at::kCUDA, 0);
  rows.dtype = dtype;
  rows.trained = GENERATE(Trained::kLora, Trained::kLoraOnHead, Trained::kAll);
  rows.batch_size = 24;  // an update is an epoch
  Setting split = rows, packed = rows, recomputed = rows;
  split.batch_size = 6;
  split.accumulation = 4;
  packed.packing = true;
  recomputed.recompute = true;
  INFO("trained: " << static_cast<int>(rows.trained) << ", " << c10::toString(dtype));
  const Run expected = run_training(rows);
  CHECK(expected.reports.back().loss < expected.reports.front().loss - 0.2);
  require_same_curve(run_training(split), expected, bound);
  require_same_curve(run_training(packed), expected, bound);
  require_same_curve(run_training(recomputed), expected, bound);
  Setting on_cpu = rows;
  on_cpu.device = at::kCPU;
  require_same_curve(run_training(on_cpu), expected, bound);
}
