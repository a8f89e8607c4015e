// Counts the bytes of a run's tensors on CPU ranks by what they are for, beside the estimate. It stands in the
// trainer's place, DSFT_TRAINER=build/bin/memory_columns dsft launch RECIPE, and writes OUTPUT_DIR/memory_columns.json:
// {"weights": [estimated, measured], ..., "total": [estimated, measured]}, in bytes, of the rank that has most.
// Weights, gradients and optimizer are what stays between updates, loss the most of it at a time, activations and
// buffers by how much the peak with them exceeds the one without. "total" is the peak of everything, from before the
// model is built until its weights are written.
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <torch/types.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "comm/make_communicator.h"
#include "comm/placement.h"
#include "comm/small_collectives.h"
#include "estimate/memory.h"
#include "io/file.h"
#include "recipe/registry.h"
#include "spec/model_spec.h"
#include "train/trainer.h"
#include "watchdog/heart.h"

using namespace dsft;

namespace {

/// What memory is for. kOther: what is there outside of steps alone.
enum Column { kWeights, kGradients, kOptimizer, kActivations, kLoss, kBuffers, kOther, kNumColumns };

/// Torch's allocator of host memory, which notes for each block what was under way when it was made.
class CountingAllocator final : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator* base) : base_(base) {}

  c10::DataPtr allocate(size_t num_bytes) override {
    auto block = std::make_unique<Block>(Block{base_->allocate(num_bytes), static_cast<int64_t>(num_bytes), now_});
    void* const data = block->memory.get();
    const std::lock_guard lock(mutex_);
    if (data) blocks_[data] = block.get();
    add(block->column, block->num_bytes);
    return {data, block.release(), &free_block, at::Device(at::kCPU)};
  }
  void copy_data(void* target, const void* source, size_t count) const override { std::memcpy(target, source, count); }

  /// What the blocks to come are for.
  void enter(Column column) { now_ = column; }

  /// Says what a tensor's block, or all that are counted for another column, are for instead.
  void move_block(const at::Tensor& tensor, Column to) {
    const std::lock_guard lock(mutex_);
    const auto found = blocks_.find(tensor.storage().mutable_data());
    if (found != blocks_.end()) move(*found->second, to);
  }
  void move_column(Column from, Column to) {
    const std::lock_guard lock(mutex_);
    for (auto& [data, block] : blocks_)
      if (block->column == from) move(*block, to);
  }

  /// Forgets the peaks so far, but that of all columns together.
  void forget_peaks() {
    const std::lock_guard lock(mutex_);
    peaks_ = live_;
    peak_of_pass_ = live_[kActivations] + live_[kLoss];
    peak_of_step_ = peak_of_pass_ + live_[kBuffers];
  }

  int64_t live(Column column) const { return live_[column]; }
  int64_t peak(Column column) const { return peaks_[column]; }
  /// Of activations and loss together; of these and buffers.
  int64_t peak_of_pass() const { return peak_of_pass_; }
  int64_t peak_of_step() const { return peak_of_step_; }
  /// Of everything.
  int64_t peak() const { return peak_; }

 private:
  struct Block {
    c10::DataPtr memory;
    int64_t num_bytes;
    Column column;
  };

  static void free_block(void* context);

  void add(Column column, int64_t num_bytes) {
    live_[column] += num_bytes;
    total_ += num_bytes;
    peaks_[column] = std::max(peaks_[column], live_[column]);
    const int64_t of_pass = live_[kActivations] + live_[kLoss];
    peak_of_pass_ = std::max(peak_of_pass_, of_pass);
    peak_of_step_ = std::max(peak_of_step_, of_pass + live_[kBuffers]);
    peak_ = std::max(peak_, total_);
  }
  void move(Block& block, Column to) {
    live_[block.column] -= block.num_bytes;
    live_[to] += block.num_bytes;
    block.column = to;
  }

  c10::Allocator* base_;
  std::atomic<Column> now_ = kOther;
  std::mutex mutex_;
  std::map<const void*, Block*> blocks_;
  std::array<int64_t, kNumColumns> live_ = {}, peaks_ = {};
  int64_t total_ = 0, peak_ = 0, peak_of_pass_ = 0, peak_of_step_ = 0;
};

// torch's allocator is one for the process
CountingAllocator& counter() {
  static CountingAllocator* const allocator = new CountingAllocator(c10::GetCPUAllocator());  // outlives all tensors
  return *allocator;
}

void CountingAllocator::free_block(void* context) {
  const std::unique_ptr<Block> block(static_cast<Block*>(context));
  const std::lock_guard lock(counter().mutex_);
  counter().blocks_.erase(block->memory.get());
  counter().live_[block->column] -= block->num_bytes;
  counter().total_ -= block->num_bytes;
}

/// Says what memory is for while blocks run, and that what sharding takes is for buffers.
class CountedHooks final : public nn::BlockHooks {
 public:
  CountedHooks(std::unique_ptr<nn::BlockHooks> inner, int64_t num_blocks)
      : inner_(std::move(inner)), last_(num_blocks - 1) {}

  void before_forward(int64_t block) override {
    counter().enter(kBuffers);
    inner_->before_forward(block);
    counter().enter(column_of(block));
  }
  void after_forward(int64_t block) override {
    counter().enter(kBuffers);
    inner_->after_forward(block);
    counter().enter(column_of(block));
  }
  void before_backward(int64_t block) override {
    counter().enter(kBuffers);
    inner_->before_backward(block);
    counter().enter(column_of(block));
  }
  void before_gradients(int64_t block, bool is_recomputed) override {
    counter().enter(kBuffers);
    inner_->before_gradients(block, is_recomputed);
    counter().enter(column_of(block));
  }
  void after_backward(int64_t block) override {
    counter().enter(kBuffers);
    inner_->after_backward(block);
    if (block > 1) counter().enter(column_of(block));  // the first ones are followed by the update
  }

 private:
  Column column_of(int64_t block) const { return block == last_ ? kLoss : kActivations; }

  std::unique_ptr<nn::BlockHooks> inner_;
  int64_t last_;
};

class CountedLoss final : public loss::Loss {
 public:
  explicit CountedLoss(std::unique_ptr<loss::Loss> inner) : inner_(std::move(inner)) {}
  std::vector<double> counts(const std::vector<Batch>& micro_batches) const override {
    counter().enter(kActivations);  // an update begins
    return inner_->counts(micro_batches);
  }
  loss::LossResult compute(model::CausalLm& model, const at::Tensor& hidden, const Batch& batch,
                           const nn::BlockRunner& runner, const model::TrainingMode* training) const override {
    counter().enter(kLoss);
    return inner_->compute(model, hidden, batch, runner, training);
  }

 private:
  std::unique_ptr<loss::Loss> inner_;
};

/// What comes after an update is outside of steps.
class StepEnd final : public train::Observer {
 public:
  void on_step(const train::StepReport&) override { counter().enter(kOther); }
};

/// What stays between updates, and the most that was there within them.
struct Measured {
  std::array<int64_t, kNumColumns> columns = {};
  int64_t total = 0;
};

Measured train(const recipe_config::RecipeConfig& config, comm::Communicator& communicator, watchdog::Heart& heart) {
  const Logger logger(communicator.rank(), /*is_quiet=*/true);
  train::RunContext context{communicator, at::kCPU, static_cast<uint64_t>(config.seed), config.output_dir, logger};
  context.heart = &heart;
  context.num_ranks_of_host = communicator.size();
  std::filesystem::create_directories(config.output_dir);
  train::Job job = recipe::build_job(config, context);
  for (const at::Tensor& state : job.optimizer->lasting_state()) counter().move_block(state, kOptimizer);
  for (const at::Tensor& gradient : job.optimizer->lasting_gradients()) counter().move_block(gradient, kGradients);
  counter().move_column(kOther, kWeights);
  counter().forget_peaks();
  job.hooks = std::make_unique<CountedHooks>(std::move(job.hooks), job.model->num_blocks());
  job.loss = std::make_unique<CountedLoss>(std::move(job.loss));
  job.observers.push_back(std::make_unique<StepEnd>());
  train::Trainer trainer(std::move(job), config.training, context);
  trainer.run();
  Measured measured;
  for (const Column column : {kWeights, kGradients, kOptimizer}) measured.columns[column] = counter().live(column);
  measured.columns[kLoss] = counter().peak(kLoss);
  measured.columns[kActivations] = counter().peak_of_pass() - counter().peak(kLoss);
  measured.columns[kBuffers] = counter().peak_of_step() - counter().peak_of_pass();
  measured.total = counter().peak();
  return measured;
}

void write_beside_estimate(const recipe_config::RecipeConfig& config, const Measured& measured, int num_ranks) {
  const spec::ModelSpec model = spec::read_model_spec(spec::find_model(config.model.path, config.model.revision));
  const estimate::MemoryEstimate estimate =
      estimate::estimate_memory(estimate::workload_of(config, model), estimate::placement_of(config, num_ranks));
  const estimate::Columns& all = estimate.host;  // of all ranks together, which hold the same
  nlohmann::ordered_json report;
  const auto add = [&](const char* name, int64_t estimated, Column column) {
    report[name] = {estimated / num_ranks, measured.columns[column]};
  };
  add("weights", all.weights, kWeights);
  add("gradients", all.gradients, kGradients);
  add("optimizer", all.optimizer, kOptimizer);
  add("activations", all.activations, kActivations);
  add("loss", all.loss, kLoss);
  add("buffers", all.buffers - estimate.outside * num_ranks, kBuffers);
  report["total"] = {all.total() / num_ranks, measured.total};
  io::replace_text_file(std::filesystem::path(config.output_dir) / "memory_columns.json", report.dump() + "\n");
}

void run(const std::string& recipe, const std::vector<std::string>& overrides) {
  watchdog::Heart heart(std::getenv(watchdog::kAddressVariable), comm::read_placement().rank);
  const auto communicator = comm::make_communicator();
  std::vector<std::string> warnings;
  recipe_config::RecipeConfig config = recipe_config::load_run_recipe(recipe, overrides, /*has_cuda=*/false, warnings);
  recipe_config::resolve_train_batch(config, communicator->size());
  Measured measured = train(config, *communicator, heart);
  for (int64_t& bytes : measured.columns) bytes = comm::all_reduce_value(*communicator, bytes, comm::ReduceOp::kMax);
  measured.total = comm::all_reduce_value(*communicator, measured.total, comm::ReduceOp::kMax);
  if (communicator->rank() == 0) write_beside_estimate(config, measured, communicator->size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || std::string(argv[1]) != "train") {
    std::fprintf(stderr, "usage: memory_columns train RECIPE [KEY=VALUE ...], as DSFT_TRAINER of dsft launch\n");
    return 2;
  }
  c10::SetCPUAllocator(&counter(), /*priority=*/100);
  try {
    run(argv[2], {argv + 3, argv + argc});
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
