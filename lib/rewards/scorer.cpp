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
#include "rewards/reward_program.h"

namespace dsft::rewards {
namespace {

constexpr size_t kBuiltInChunk = 8;
constexpr int kMostFailuresInARow = 3;
constexpr int kMostMessages = 5;
constexpr std::chrono::milliseconds kBetweenIdleChecks{200};

using Row = std::vector<std::optional<double>>;

/// The samples of one call of submit(), and what they have got so far.
struct Submission {
  int64_t step = 0;
  int64_t first_index = 0;
  std::vector<Sample> samples;
  std::vector<Row> rewards;
};

/// Samples of a submission that one function judges in one go.
struct Chunk {
  std::shared_ptr<Submission> submission;
  size_t function = 0;
  size_t begin = 0;
  size_t end = 0;

  std::span<const Sample> samples() const { return std::span(submission->samples).subspan(begin, end - begin); }
  int64_t index(size_t place) const { return submission->first_index + static_cast<int64_t>(begin + place); }
  std::string describe_loss() const {
    const std::string what = end - begin == 1 ? concat("sample ", index(0), " gets")
                                              : concat("samples ", index(0), " to ", index(end - begin - 1), " get");
    return concat("; step ", submission->step, ", ", what, " no value");
  }
};

/// What waits for the processes of one function.
struct Queue {
  std::deque<Chunk> waiting;
  int64_t num_workers = 0;   ///< that still take from it
  std::string why_given_up;  ///< by the last that did
};

/// What may stand in the name of a file.
std::string file_name_of(const std::string& name) {
  std::string file = name;
  for (char& c : file) {
    if (!(std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.')) c = '_';
  }
  return file;
}

}  // namespace

struct Scorer::State {
  State(std::vector<RewardConfig> rewards, ScorerOptions options, Logger logger)
      : rewards_(std::move(rewards)), options_(std::move(options)), logger_(logger), num_messages_(rewards_.size()) {
    for (const RewardConfig& reward : rewards_) {
      const auto* parameters = std::get_if<BuiltInConfig>(&reward.function);
      functions_.push_back(parameters ? make_built_in(*parameters) : RewardFunction());
    }
    queues_.resize(rewards_.size());
    std::error_code error;
    if (!options_.log_folder.empty()) std::filesystem::create_directories(options_.log_folder, error);
    if (error) fail(ErrorKind::kData, "cannot make the folder ", options_.log_folder.string(), ": ", error.message());
    start_threads();
  }

  ~State() { stop(); }

  void start_threads() {
    for (size_t f = 0; f < rewards_.size(); ++f) {
      const auto* program = std::get_if<ProgramConfig>(&rewards_[f].function);
      queues_[f].num_workers = program ? program->workers : 0;
      num_starting_ += queues_[f].num_workers;
    }
    try {
      for (size_t f = 0; f < rewards_.size(); ++f) {
        const auto* program = std::get_if<ProgramConfig>(&rewards_[f].function);
        for (int64_t worker = 0; program && worker < program->workers; ++worker)
          threads_.emplace_back([this, f, worker] { run_program(f, worker); });
      }
      const bool has_built_in = std::any_of(functions_.begin(), functions_.end(), [](const auto& f) { return !!f; });
      for (int64_t i = 0; has_built_in && i < std::max<int64_t>(options_.num_threads, 1); ++i)
        threads_.emplace_back([this] { run_built_in(); });
    } catch (...) {  // no more threads
      stop();
      throw;
    }
  }

  void stop() {
    is_stopped_ = true;
    { const std::lock_guard lock(mutex_); }
    has_work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  void submit(int64_t step, int64_t first_index, std::vector<Sample> samples) {
    auto submission = std::make_shared<Submission>();
    submission->step = step;
    submission->first_index = first_index;
    submission->rewards.assign(samples.size(), Row(rewards_.size()));
    submission->samples = std::move(samples);
    {
      const std::lock_guard lock(mutex_);
      submissions_.push_back(submission);
      for (size_t f = 0; f < rewards_.size(); ++f) enqueue(submission, f);
    }
    has_work_.notify_all();
  }

  /// Programs get a part for each worker, so that all have work; the parts do not depend on who is free.
  void enqueue(const std::shared_ptr<Submission>& submission, size_t function) {
    const size_t size = submission->samples.size();
    const auto* program = std::get_if<ProgramConfig>(&rewards_[function].function);
    const size_t num_parts =
        program ? std::min(static_cast<size_t>(program->workers), size) : (size + kBuiltInChunk - 1) / kBuiltInChunk;
    for (size_t part = 0; part < num_parts; ++part) {
      Chunk chunk{submission, function, size * part / num_parts, size * (part + 1) / num_parts};
      ++num_pending_;
      if (!program) {
        built_in_.push_back(std::move(chunk));
      } else if (queues_[function].num_workers > 0) {
        queues_[function].waiting.push_back(std::move(chunk));
      } else {
        finish_failed(chunk, queues_[function].why_given_up);
      }
    }
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
      finish(chunk, std::move(values));
    }
  }

  void run_program(size_t function, int64_t worker) {
    const ProgramConfig& config = std::get<ProgramConfig>(rewards_[function].function);
    ProgramOptions options{config.command, config.timeout_s, options_.start_timeout_s, {}};
    if (!options_.log_folder.empty()) {
      options.log_file = options_.log_folder / concat("reward-", file_name_of(rewards_[function].metric_name()), "-",
                                                      logger_.rank(), "-", worker, ".log");
    }
    RewardProgram program(options, is_stopped_);
    int num_failures = start_first(program, function, worker);
    while (num_failures < kMostFailuresInARow) {
      std::optional<Chunk> chunk;
      try {
        chunk = take(function);
        if (is_stopped_) return;
        if (const auto status = program.take_end()) {
          say(function, concat(name_of(function, worker), " ", status->describe(),
                               " while nothing was asked of it, and is started again", describe_last_words(program)));
        }
        if (!chunk) {
          program.check_idle();
          continue;
        }
        if (!program.is_started()) program.start();
        Row values = program.score(chunk->submission->step, chunk->samples());
        const std::lock_guard lock(mutex_);
        finish(*chunk, std::move(values));
        num_failures = 0;
      } catch (const std::exception& error) {
        if (is_stopped_) return;
        ++num_failures;
        const std::string reason = describe_failure(function, worker, error);
        say(function, concat(reason, chunk ? chunk->describe_loss() : ", while nothing was asked of it",
                             describe_last_words(program)));
        if (!chunk) continue;
        const std::lock_guard lock(mutex_);
        finish_failed(*chunk, reason);
      }
    }
    give_up(function, worker);
  }

  /// Gives how often it failed.
  int start_first(RewardProgram& program, size_t function, int64_t worker) {
    std::optional<std::string> fault;
    try {
      program.start();
    } catch (const std::exception& error) {
      fault = describe_failure(function, worker, error) + describe_last_words(program);
    }
    if (fault && !is_stopped_) say(function, *fault);
    {
      const std::lock_guard lock(mutex_);
      --num_starting_;
      if (fault && !start_fault_)
        start_fault_ = concat("the reward `", rewards_[function].metric_name(), "`: ", *fault);
    }
    is_done_.notify_all();
    return fault ? 1 : 0;
  }

  std::string name_of(size_t function, int64_t worker) const {
    return concat("`", std::get<ProgramConfig>(rewards_[function].function).command, "` (worker ", worker, ")");
  }

  std::string describe_failure(size_t function, int64_t worker, const std::exception& error) const {
    return concat(name_of(function, worker), " ", error.what());
  }

  static std::string describe_last_words(const RewardProgram& program) {
    const std::string words = program.last_words();
    return words.empty() ? "" : "\n  the end of its standard error:\n" + words;
  }

  /// The next chunk for a process of this function; nothing after a short while or when all stops.
  std::optional<Chunk> take(size_t function) {
    std::unique_lock lock(mutex_);
    auto& waiting = queues_[function].waiting;
    has_work_.wait_for(lock, kBetweenIdleChecks, [&] { return is_stopped_ || !waiting.empty(); });
    if (is_stopped_ || waiting.empty()) return std::nullopt;
    Chunk chunk = std::move(waiting.front());
    waiting.pop_front();
    return chunk;
  }

  void give_up(size_t function, int64_t worker) {
    say(function,
        concat("worker ", worker, " failed ", kMostFailuresInARow, " times in a row and is not started again"));
    const std::lock_guard lock(mutex_);
    Queue& queue = queues_[function];
    if (--queue.num_workers > 0) return;
    queue.why_given_up =
        concat("`", std::get<ProgramConfig>(rewards_[function].function).command,
               "` was given up: each of its processes failed ", kMostFailuresInARow, " times in a row");
    for (const Chunk& chunk : queue.waiting) finish_failed(chunk, queue.why_given_up);
    queue.waiting.clear();
  }

  /// With the lock held.
  void finish(const Chunk& chunk, Row values) {
    for (size_t i = 0; i < values.size(); ++i) chunk.submission->rewards[chunk.begin + i][chunk.function] = values[i];
    if (--num_pending_ == 0) is_done_.notify_all();
  }

  /// With the lock held.
  void finish_failed(const Chunk& chunk, const std::string& reason) {
    for (size_t i = 0; i < chunk.samples().size(); ++i) failures_.push_back({chunk.index(i), chunk.function, reason});
    finish(chunk, Row(chunk.samples().size()));
  }

  void say(size_t function, const std::string& text) {
    int number = 0;
    {
      const std::lock_guard lock(mutex_);
      number = ++num_messages_[function];
    }
    if (number > kMostMessages) return;
    logger_.warn_here("reward `", rewards_[function].metric_name(), "`: ", text,
                      number == kMostMessages ? ". Further failures of this reward are counted, not listed." : "");
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
  std::vector<Queue> queues_;  ///< of programs
  std::vector<std::shared_ptr<Submission>> submissions_;
  std::vector<FailedReward> failures_;
  std::vector<int> num_messages_;
  int64_t num_pending_ = 0;   ///< chunks
  int64_t num_starting_ = 0;  ///< processes
  std::optional<std::string> start_fault_;

  std::atomic<bool> is_stopped_{false};
  std::vector<std::thread> threads_;
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
                max_failed,
                " that grpo.max_failed_rewards allows. The warnings above say why; mend the reward and "
                "go on with training.resume_from_checkpoint=true.");
}

}  // namespace dsft::rewards
