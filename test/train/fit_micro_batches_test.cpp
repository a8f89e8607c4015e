// training.auto_find_batch_size, with a device that is said to have no more memory.
#include <c10/util/Exception.h>

#include "catch_amalgamated.hpp"
#include "checkpoint/trainer_state.h"
#include "support/require_error.h"
#include "train/tiny_run.h"

using namespace dsft;
using namespace dsft::test;

namespace {

/// Memory for micro-batches of so many documents; where a larger one meets its end, and who says so.
struct Shortage {
  int64_t max_documents = 0;
  bool is_in_backward = false;
  bool is_of_library = false;  // beside torch's allocator
};

[[noreturn]] void run_out_of_memory(const Shortage& shortage) {
  TORCH_CHECK(!shortage.is_of_library, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`");
  TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory");
}

/// Runs out of memory over a larger micro-batch, in the forward pass or in the middle of the backward pass.
class ShortLoss final : public loss::Loss {
 public:
  ShortLoss(Shortage shortage, std::shared_ptr<bool> is_too_large)
      : shortage_(shortage), is_too_large_(std::move(is_too_large)) {}
  std::vector<double> counts(const std::vector<Batch>& micro_batches) const override {
    return loss_.counts(micro_batches);
  }
  loss::LossResult compute(model::CausalLm& model, const at::Tensor& hidden, const Batch& batch,
                           const nn::BlockRunner& runner, const model::TrainingMode* training) const override {
    *is_too_large_ = batch.num_documents() > shortage_.max_documents;
    if (*is_too_large_ && !shortage_.is_in_backward) run_out_of_memory(shortage_);
    return loss_.compute(model, hidden, batch, runner, training);
  }

 private:
  loss::CausalLmLoss loss_;
  Shortage shortage_;
  std::shared_ptr<bool> is_too_large_;
};

class ShortHooks final : public nn::BlockHooks {
 public:
  ShortHooks(Shortage shortage, std::shared_ptr<bool> is_too_large)
      : shortage_(shortage), is_too_large_(std::move(is_too_large)) {}
  void after_backward(int64_t block) override {
    if (*is_too_large_ && block == 1) run_out_of_memory(shortage_);
  }

 private:
  Shortage shortage_;
  std::shared_ptr<bool> is_too_large_;
};

void add_shortage(train::Job& job, Shortage shortage) {
  const auto is_too_large = std::make_shared<bool>(false);
  job.loss = std::make_unique<ShortLoss>(shortage, is_too_large);
  job.hooks = std::make_unique<ShortHooks>(shortage, is_too_large);
}

void find_batch_size(train::TrainingConfig& config) {
  config.auto_find_batch_size = true;
}

/// What is said of the batch size.
class Messages final : public train::Observer {
 public:
  explicit Messages(std::vector<std::string>& lines) : lines_(lines) {}
  void on_message(const std::string& line) override {
    if (line.starts_with("training.auto_find_batch_size")) lines_.push_back(line);
  }

 private:
  std::vector<std::string>& lines_;
};

void require_same_run(const Run& actual, const Run& expected) {
  REQUIRE(actual.reports.size() == expected.reports.size());
  for (size_t i = 0; i < expected.reports.size(); ++i) {
    CHECK(actual.reports[i].loss == expected.reports[i].loss);
    CHECK(actual.reports[i].grad_norm == expected.reports[i].grad_norm);
    CHECK(actual.reports[i].num_tokens == expected.reports[i].num_tokens);
  }
  REQUIRE(actual.weights.size() == expected.weights.size());
  for (size_t i = 0; i < expected.weights.size(); ++i) CHECK(actual.weights[i].equal(expected.weights[i]));
}

}  // namespace

TEST_CASE("Where memory is short, a run has smaller micro-batches and the same updates", "[train]") {
  Setting split, found;
  split.trained = found.trained = GENERATE(Trained::kLora, Trained::kAll);
  split.max_steps = found.max_steps = 5;
  split.batch_size = 2;
  split.accumulation = 4;
  found.batch_size = 8;
  found.configure = find_batch_size;
  const Shortage shortage{
      .max_documents = 2, .is_in_backward = GENERATE(false, true), .is_of_library = GENERATE(false, true)};
  std::vector<std::string> lines;
  found.amend = [&](train::Job& job) {
    add_shortage(job, shortage);
    job.observers.push_back(std::make_unique<Messages>(lines));
  };
  require_same_run(run_training(found), run_training(split));
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].find("4 rows (or bins) in each") != std::string::npos);
  CHECK(lines[1].find("2 rows (or bins) in each") != std::string::npos);
}

TEST_CASE("A run that goes on has the micro-batches that were found before, and their number is in its state",
          "[train]") {
  const TempDir output;
  const auto saved_batch_size = [&](int64_t step) {
    return checkpoint::read_trainer_state(output.path() / concat("checkpoint-", step)).train_batch_size;
  };
  Setting setting;
  setting.max_steps = 3;
  setting.save_steps = 3;
  setting.batch_size = 8;
  setting.configure = find_batch_size;
  std::vector<std::string> lines;
  int64_t max_documents = 2;
  setting.amend = [&](train::Job& job) {
    add_shortage(job, {.max_documents = max_documents});
    job.observers.push_back(std::make_unique<Messages>(lines));
  };
  run_training(setting, output.path());
  CHECK(saved_batch_size(3) == 2);
  CHECK(lines.size() == 2);

  lines.clear();
  max_documents = GENERATE(8, 2, 1);  // of the machine that it goes on
  setting.max_steps = 6;
  setting.resume = true;
  run_training(setting, output.path());
  CHECK(saved_batch_size(6) == std::min<int64_t>(max_documents, 2));
  REQUIRE(lines.size() == (max_documents == 1 ? 2 : 1));
  CHECK(lines[0].find("2 rows (or bins) in each micro-batch; ") != std::string::npos);

  // without the key the recipe's number counts, and it is what a later run finds
  lines.clear();
  max_documents = 8;
  setting.max_steps = 9;
  setting.configure = nullptr;
  run_training(setting, output.path());
  CHECK(saved_batch_size(9) == 8);
  CHECK(lines.empty());
}

TEST_CASE("Where memory suffices, looking for the batch size changes nothing", "[train]") {
  Setting plain, found;
  plain.max_steps = found.max_steps = 5;
  plain.dtype = found.dtype = GENERATE(at::kFloat, at::kHalf);
  found.configure = find_batch_size;
  require_same_run(run_training(found), run_training(plain));
}

TEST_CASE("All ranks take smaller micro-batches where one is short of memory", "[train]") {
  const auto train_ranks = [](const Setting& setting, int64_t short_rank) {
    const auto rows = std::make_shared<MemoryStore>(setting.num_rows, kVocabSize);
    const TempDir output;
    std::vector<Run> runs(2);
    comm::run_thread_ranks(2, [&](comm::Communicator& communicator) {
      Setting own = setting;
      if (communicator.rank() == short_rank)
        own.amend = [](train::Job& job) { add_shortage(job, {.max_documents = 2}); };
      runs[communicator.rank()] = train_rank(own, rows, communicator, output.path());
    });
    return runs;
  };
  Setting split, found;
  split.max_steps = found.max_steps = 3;
  split.batch_size = split.accumulation = 2;
  found.batch_size = 4;
  found.configure = find_batch_size;
  const std::vector<Run> expected = train_ranks(split, -1), runs = train_ranks(found, 1);
  for (size_t rank = 0; rank < 2; ++rank) require_same_run(runs[rank], expected[rank]);
}

TEST_CASE("A row that does not fit alone ends the run with what could help", "[train]") {
  Setting setting;
  setting.configure = find_batch_size;
  setting.amend = [](train::Job& job) { add_shortage(job, {.max_documents = 0}); };
  require_error(ErrorKind::kDevice, {"auto_find_batch_size", "data.max_length", "gradient_checkpointing"},
                [&] { run_training(setting); });
}

TEST_CASE("Without the key a run that is short of memory ends, and so does one that fails for another reason",
          "[train]") {
  Setting setting;
  setting.amend = [](train::Job& job) { add_shortage(job, {.max_documents = 2}); };
  CHECK_THROWS_AS(run_training(setting), c10::OutOfMemoryError);
  setting.configure = find_batch_size;
  setting.amend = [](train::Job& job) {
    class Broken final : public nn::BlockHooks {
      void after_backward(int64_t) override { fail(ErrorKind::kCommunication, "a rank was lost"); }
    };
    job.hooks = std::make_unique<Broken>();
  };
  require_error(ErrorKind::kCommunication, {"a rank was lost"}, [&] { run_training(setting); });
}
