// What a recipe's callback keeps goes on with a run, on any number of ranks.
#include "catch_amalgamated.hpp"
#include "support/captured_stderr.h"
#include "train/tiny_run.h"
#include "zero/part_name.h"

using namespace dsft;
using namespace dsft::test;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr int64_t kNumSums = 6;

/// What a Tally has come to; of the ranks together.
struct Tallied {
  std::vector<double> sums = std::vector<double>(kNumSums);
  std::vector<int64_t> counts;  // of each rank
};

/// Adds up (i + 1) times the number of each update, i = 0..5, of which each rank keeps its part, and counts updates.
class Tally final : public train::UpdateCallback {
 public:
  Tally(std::string name, int rank, int size, Tallied& seen)
      : name_(std::move(name)),
        rank_(rank),
        first_(rank * kNumSums / size),
        sums_(torch::zeros({kNumSums / size}, at::kDouble)),
        seen_(seen) {}

  std::string name() const override { return name_; }
  void after_update(train::StepReport& report) override {
    const at::Tensor places = torch::arange(sums_.numel()).to(at::kDouble) + static_cast<double>(first_ + 1);
    sums_ += places * static_cast<double>(report.step);
    ++count_;
    for (int64_t i = 0; i < sums_.numel(); ++i) seen_.sums[static_cast<size_t>(first_ + i)] = sums_[i].item<double>();
    seen_.counts[static_cast<size_t>(rank_)] = count_;
  }
  std::vector<zero::NamedState> state() const override {
    // of what is not shared rank 0's is saved
    return {{zero::to_text({"sums", first_}), sums_.clone()}, {"count", torch::tensor({count_ + 100 * rank_})}};
  }
  void restore(zero::SavedState state) override {
    state.expect("sums", {kNumSums}, at::kDouble);
    state.expect("count", {1}, at::kLong);
    DSFT_CHECK(state.faults().empty(), state.faults());
    state.copy("sums", first_, sums_);
    const at::Tensor count = torch::empty({1}, at::kLong);
    state.copy("count", 0, count);
    count_ = count.item<int64_t>();
  }

 private:
  std::string name_;
  int rank_;
  int64_t first_, count_ = 0;
  at::Tensor sums_;
  Tallied& seen_;
};

/// A part of a run, with a Tally of this name on each rank, or none; also what the run has said.
struct Leg {
  int num_ranks = 1;
  int64_t end = 0;
  std::string callback = {};
};

std::pair<Tallied, std::string> run_leg(const Leg& leg, bool resumes, const std::filesystem::path& output) {
  Setting setting;
  setting.trained = Trained::kAll;
  setting.stage = 2;  // ranks share the state of optimizer and callback
  setting.batch_size = 4 / leg.num_ranks;
  setting.max_steps = leg.end;
  setting.resume = resumes;
  const auto rows = std::make_shared<MemoryStore>(setting.num_rows, kVocabSize);
  Tallied seen;
  seen.counts.resize(static_cast<size_t>(leg.num_ranks));
  const CapturedStderr captured;
  comm::run_thread_ranks(leg.num_ranks, [&](comm::Communicator& communicator) {
    Setting own = setting;
    own.amend = [&](train::Job& job) {
      if (!leg.callback.empty())
        job.callbacks.push_back(std::make_unique<Tally>(leg.callback, communicator.rank(), communicator.size(), seen));
    };
    train_rank(own, rows, communicator, output);
  });
  return {seen, captured.text()};
}

std::vector<double> sums_of(double all_steps) {
  std::vector<double> sums;
  for (int64_t i = 0; i < kNumSums; ++i) sums.push_back(all_steps * static_cast<double>(i + 1));
  return sums;
}

}  // namespace

TEST_CASE("A callback's state, of parts of two ranks, goes on with one", "[train]") {
  const TempDir output;
  const auto [begun, first_text] = run_leg({.num_ranks = 2, .end = 4, .callback = "test.tally"}, false, output.path());
  CHECK(begun.sums == sums_of(1 + 2 + 3 + 4));
  CHECK(begun.counts == std::vector<int64_t>{4, 4});
  const auto [whole, text] = run_leg({.end = 7, .callback = "test.tally"}, true, output.path());
  CHECK(whole.sums == sums_of(1 + 2 + 3 + 4 + 5 + 6 + 7));
  CHECK(whole.counts == std::vector<int64_t>{7});
  CHECK_THAT(text, !ContainsSubstring("test.tally"));

  // and on two again
  const auto [again, none] = run_leg({.num_ranks = 2, .end = 8, .callback = "test.tally"}, true, output.path());
  CHECK(again.sums == sums_of(36));
  CHECK(again.counts == std::vector<int64_t>{8, 8});
}

TEST_CASE("A run that goes on without a callback, or with a new one, says so", "[train]") {
  const TempDir output;
  run_leg({.end = 2, .callback = "test.tally"}, false, output.path());
  const auto [other, of_other] = run_leg({.end = 4, .callback = "test.other"}, true, output.path());
  CHECK(other.sums == sums_of(3 + 4));  // from the start
  CHECK_THAT(of_other,
             ContainsSubstring("checkpoint-2 was saved by a run without test.other, which therefore begins "
                               "as in a new run") &&
                 ContainsSubstring("checkpoint-2 holds the state of test.tally, which the recipe does not ask "
                                   "for any more"));
  const auto [none, of_none] = run_leg({.end = 5}, true, output.path());
  CHECK_THAT(of_none, ContainsSubstring("checkpoint-4 holds the state of test.other") &&
                          !ContainsSubstring("test.tally") && !ContainsSubstring("was saved by a run without"));
}
