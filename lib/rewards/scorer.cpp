#include "rewards/scorer.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/nearest_name.h"
#include "rewards/built_in.h"
#include "rewards/program_workers.h"

namespace dsft::rewards {
namespace {

constexpr size_t kBuiltInChunk = 8;
constexpr int kMostMessages = 5;

/// What may stand in the name of a file.
std::string file_name_of(const std::string& name) {
  std::string file = name;
  for (char& c : file) {
    if (!(std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.')) c = '_';
  }
  return file;
}

}  // namespace

struct Scorer::State final : ChunkOutcomes {
  State(std::vector<RewardConfig> rewards, ScorerOptions options, Logger logger)
      : rewards_(std::move(rewards)), options_(std::move(options)), logger_(logger), num_messages_(rewards_.size()) {
    for (const RewardConfig& reward : rewards_) {
      const auto* parameters = std::get_if<BuiltInConfig>(&reward.function);
      functions_.push_back(parameters ? make_built_in(*parameters) : RewardFunction());
    }
    std::error_code error;
    if (!options_.log_folder.empty()) std::filesystem::create_directories(options_.log_folder, error);
    if (error) fail(ErrorKind::kData, "cannot make the folder ", options_.log_folder.string(), ": ", error.message());
    start_threads();
  }

  ~State() override { stop(); }

  void start_threads() {
    for (const RewardConfig& reward : rewards_)
      if (const auto* program = std::get_if<ProgramConfig>(&reward.function)) num_starting_ += program->workers;
    try {
      for (size_t f = 0; f < rewards_.size(); ++f) workers_.push_back(start_workers(f));
      const bool has_built_in = std::any_of(functions_.begin(), functions_.end(), [](const auto& f) { return !!f; });
      for (int64_t i = 0; has_built_in && i < std::max<int64_t>(options_.num_threads, 1); ++i)
        threads_.emplace_back([this] { run_built_in(); });
    } catch (...) {  // no more threads
      stop();
      throw;
    }
  }

  /// Null for a built-in function.
  std::unique_ptr<ProgramWorkers> start_workers(size_t function) {
    const auto* program = std::get_if<ProgramConfig>(&rewards_[function].function);
    if (!program) return nullptr;
    WorkersOptions options{.function = function, .program = *program, .start_timeout_s = options_.start_timeout_s};
    if (!options_.log_folder.empty())
      options.log_files =
          options_.log_folder / concat("reward-", file_name_of(rewards_[function].metric_name()), "-", logger_.rank());
    return std::make_unique<ProgramWorkers>(std::move(options), *this);
  }

  void stop() {
    is_stopped_ = true;
    { const std::lock_guard lock(mutex_); }
    has_work_.notify_all();
    for (const auto& workers : workers_)
      if (workers) workers->stop();
    workers_.clear();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  void submit(int64_t step, int64_t first_index, std::vector<Sample> samples) {
    auto submission = std::make_shared<Submission>();
    submission->step = step;
    submission->first_index = first_index;
    submission->rewards.assign(samples.size(), Row(rewards_.size()));
    submission->samples = std::move(samples);
    std::vector<Chunk> chunks;
    for (size_t f = 0; f < rewards_.size(); ++f) add_chunks(submission, f, chunks);
    {
      const std::lock_guard lock(mutex_);
      submissions_.push_back(submission);
      num_pending_ += static_cast<int64_t>(chunks.size());
      for (const Chunk& chunk : chunks)
        if (!workers_[chunk.function]) built_in_.push_back(chunk);
    }
    has_work_.notify_all();
    for (Chunk& chunk : chunks) {
      if (!workers_[chunk.function]) continue;
      if (const auto fault = workers_[chunk.function]->add(chunk)) finish_failed(chunk, *fault);
    }
  }

  /// Programs get a part for each worker, so that all have work; the parts do not depend on who is free.
  void add_chunks(const std::shared_ptr<Submission>& submission, size_t function, std::vector<Chunk>& chunks) const {
    const size_t size = submission->samples.size();
    const auto* program = std::get_if<ProgramConfig>(&rewards_[function].function);
    const size_t num_parts =
        program ? std::min(static_cast<size_t>(program->workers), size) : (size + kBuiltInChunk - 1) / kBuiltInChunk;
    for (size_t part = 0; part < num_parts; ++part)
      chunks.push_back({submission, function, size * part / num_parts, size * (part + 1) / num_parts});
  }

  void run_built_in() {
    std::unique_lock lock(mutex_);
    while (true) {
      has_work_.wait(lock, [&] { return is_stopped_ || !built_in_.empty(); });
      if (is_stopped_) return;
      const Chunk chunk = std::move(built_in_.front());
      built_in_.pop_front();
      lock.unlock();
      std::vector<FailedReward> failures;
      Row values;
      for (const Sample& sample : chunk.samples()) {
        try {
          values.push_back(functions_[chunk.function](sample));
        } catch (const std::exception& error) {
          failures.push_back({chunk.index(values.size()), chunk.function, shortened(error.what())});
          values.push_back(std::nullopt);
        }
      }
      if (!failures.empty()) {
        say(chunk.function,
            concat("step ", chunk.submission->step, ", sample ", failures[0].index, ": ", failures[0].reason, "; ",
                   failures.size(), " of ", values.size(), " samples get no value"));
      }
      lock.lock();
      failures_.insert(failures_.end(), failures.begin(), failures.end());
      take_in(chunk, std::move(values));
    }
  }

  void has_started(size_t function, const std::optional<std::string>& fault) override {
    {
      const std::lock_guard lock(mutex_);
      --num_starting_;
      if (fault && !start_fault_)
        start_fault_ = concat("the reward `", rewards_[function].metric_name(), "`: ", *fault);
    }
    is_done_.notify_all();
  }

  void finish(const Chunk& chunk, Row values) override {
    const std::lock_guard lock(mutex_);
    take_in(chunk, std::move(values));
  }

  void finish_failed(const Chunk& chunk, const std::string& reason) override {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < chunk.size(); ++i) failures_.push_back({chunk.index(i), chunk.function, reason});
    take_in(chunk, Row(chunk.size()));
  }

  /// With the lock held.
  void take_in(const Chunk& chunk, Row values) {
    for (size_t i = 0; i < values.size(); ++i) chunk.submission->rewards[chunk.begin + i][chunk.function] = values[i];
    if (--num_pending_ == 0) is_done_.notify_all();
  }

  void say(size_t function, const std::string& text) override {
    int number = 0;
    {
      const std::lock_guard lock(mutex_);
      number = ++num_messages_[function];
    }
    if (number > kMostMessages) return;
    const std::string name = rewards_[function].metric_name();
    logger_.warn_here("reward `", name, "`: ", text,
                      number == kMostMessages
                          ? ". Further failures of it are counted (rewards/failed in metrics.jsonl), not listed."
                          : "");
  }

  void wait_until_ready() {
    std::unique_lock lock(mutex_);
    is_done_.wait(lock, [&] { return num_starting_ == 0; });
    if (start_fault_) fail(ErrorKind::kData, *start_fault_);
  }

  bool wait_for(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    return is_done_.wait_for(lock, timeout, [&] { return num_pending_ == 0; });
  }

  Scores collect() {
    std::unique_lock lock(mutex_);
    is_done_.wait(lock, [&] { return num_pending_ == 0; });
    const auto submissions = std::move(submissions_);
    submissions_.clear();
    Scores scores;
    scores.failures = std::move(failures_);
    failures_.clear();
    lock.unlock();
    return gather(submissions, std::move(scores));
  }

  static Scores gather(const std::vector<std::shared_ptr<Submission>>& submissions, Scores scores) {
    std::vector<std::pair<int64_t, Row*>> rows;
    for (const auto& submission : submissions) {
      for (size_t i = 0; i < submission->rewards.size(); ++i)
        rows.emplace_back(submission->first_index + static_cast<int64_t>(i), &submission->rewards[i]);
    }
    std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [index, row] : rows) {
      DSFT_CHECK(scores.indices.empty() || scores.indices.back() < index, "sample ", index, " was submitted twice");
      scores.indices.push_back(index);
      scores.rewards.push_back(std::move(*row));
    }
    std::sort(scores.failures.begin(), scores.failures.end(), [](const FailedReward& a, const FailedReward& b) {
      return std::pair(a.index, a.function) < std::pair(b.index, b.function);
    });
    return scores;
  }

  const std::vector<RewardConfig> rewards_;
  const ScorerOptions options_;
  const Logger logger_;
  std::vector<RewardFunction> functions_;  ///< empty for programs

  std::mutex mutex_;  ///< guards what follows
  std::condition_variable has_work_;
  std::condition_variable is_done_;
  std::deque<Chunk> built_in_;
  std::vector<std::shared_ptr<Submission>> submissions_;
  std::vector<FailedReward> failures_;
  std::vector<int> num_messages_;
  int64_t num_pending_ = 0;   ///< chunks
  int64_t num_starting_ = 0;  ///< processes
  std::optional<std::string> start_fault_;

  std::atomic<bool> is_stopped_{false};
  std::vector<std::thread> threads_;                      ///< of built-in functions
  std::vector<std::unique_ptr<ProgramWorkers>> workers_;  ///< null for built-in functions; destroyed first
};

std::vector<int64_t> Scores::failed_indices() const {
  std::vector<int64_t> failed;
  for (const FailedReward& failure : failures) {
    if (failed.empty() || failed.back() != failure.index) failed.push_back(failure.index);
  }
  return failed;
}

std::vector<int64_t> Scores::count_failures(size_t num_functions) const {
  std::vector<int64_t> counts(num_functions);
  for (const FailedReward& failure : failures) ++counts.at(failure.function);
  return counts;
}

Scorer::Scorer(std::vector<RewardConfig> rewards, ScorerOptions options, Logger logger)
    : state_(std::make_unique<State>(std::move(rewards), std::move(options), logger)) {}

Scorer::~Scorer() = default;

void Scorer::wait_until_ready() {
  state_->wait_until_ready();
}

void Scorer::submit(int64_t step, int64_t first_index, std::vector<Sample> samples) {
  state_->submit(step, first_index, std::move(samples));
}

bool Scorer::wait_for(std::chrono::milliseconds timeout) {
  return state_->wait_for(timeout);
}

Scores Scorer::collect() {
  return state_->collect();
}

std::optional<std::string> too_many_failures(int64_t step, int64_t num_failed_samples, int64_t num_samples,
                                             double max_failed, const std::vector<RewardConfig>& rewards,
                                             const std::vector<int64_t>& num_failures) {
  if (static_cast<double>(num_failed_samples) <= max_failed * static_cast<double>(num_samples)) return std::nullopt;
  std::vector<std::string> parts;
  for (size_t f = 0; f < rewards.size(); ++f) {
    if (num_failures[f] > 0) parts.push_back(concat("`", rewards[f].metric_name(), "` ", num_failures[f], " times"));
  }
  return concat("step ", step, ": ", num_failed_samples, " of ", num_samples,
                " samples got no value because a reward failed (", join_words(parts), "), more than the share ",
                max_failed, " that grpo.max_failed_rewards allows. The warnings above say why.");
}

}  // namespace dsft::rewards
