#include "rewards/program_workers.h"

#include "base/stopwatch.h"
#include "rewards/request_size.h"

namespace dsft::rewards {
namespace {

constexpr int kMostFailuresInARow = 3;
constexpr std::chrono::milliseconds kBetweenIdleChecks{200};

std::string describe_last_words(const RewardProgram& program) {
  const std::string words = program.last_words();
  return words.empty() ? "" : "\n  the end of its standard error:\n" + words;
}

}  // namespace

ProgramWorkers::ProgramWorkers(WorkersOptions options, ChunkOutcomes& outcomes)
    : options_(std::move(options)), outcomes_(outcomes), num_workers_(options_.program.workers) {
  try {
    for (int64_t worker = 0; worker < options_.program.workers; ++worker)
      threads_.emplace_back([this, worker] { run(worker); });
  } catch (...) {  // no more threads
    stop();
    for (std::thread& thread : threads_) thread.join();
    throw;
  }
}

ProgramWorkers::~ProgramWorkers() {
  stop();
  for (std::thread& thread : threads_) thread.join();
}

void ProgramWorkers::stop() {
  is_stopped_ = true;
  { const std::lock_guard lock(mutex_); }
  has_work_.notify_all();
}

std::optional<std::string> ProgramWorkers::add(Chunk chunk) {
  {
    const std::lock_guard lock(mutex_);
    if (num_workers_ == 0) return why_given_up_;
    num_waiting_samples_ += chunk.size();
    waiting_.push_back({std::move(chunk)});
  }
  has_work_.notify_one();
  return std::nullopt;
}

void ProgramWorkers::run(int64_t worker) {
  const ProgramConfig& config = options_.program;
  ProgramOptions program_options{config.command, config.timeout_s, options_.start_timeout_s, {}};
  if (!options_.log_files.empty()) program_options.log_file = options_.log_files.string() + concat("-", worker, ".log");
  RewardProgram program(program_options, is_stopped_);
  RequestSize size(config.timeout_s);
  int num_failures = start_first(program, worker);
  while (num_failures < kMostFailuresInARow) {
    std::vector<Waiting> request;
    try {
      request = take(size.most());
      if (is_stopped_) return;
      if (const auto status = program.take_end())
        outcomes_.say(options_.function,
                      concat(name_of(worker), " ", status->describe(),
                             " while nothing was asked of it, and is started again", describe_last_words(program)));
      if (request.empty()) {
        program.check_idle();
        continue;
      }
      if (!program.is_started()) program.start();
      const Stopwatch stopwatch;
      ask(program, request);
      size_t num_samples = 0;
      for (const Waiting& item : request) num_samples += item.chunk.size();
      size.note_answer(num_samples, stopwatch.seconds());
      num_failures = 0;
    } catch (const std::exception& error) {
      if (is_stopped_) return;
      ++num_failures;
      size.note_failure();
      lose(std::move(request), concat(name_of(worker), " ", error.what()), describe_last_words(program));
    }
  }
  give_up(worker);
}

// Gives how often it failed.
int ProgramWorkers::start_first(RewardProgram& program, int64_t worker) {
  std::optional<std::string> fault;
  try {
    program.start();
  } catch (const std::exception& error) {
    fault = concat(name_of(worker), " ", error.what()) + describe_last_words(program);
  }
  if (fault && !is_stopped_) outcomes_.say(options_.function, *fault);
  outcomes_.has_started(options_.function, fault);
  return fault ? 1 : 0;
}

// The next chunks of one step for a process, its share of those that wait and `most` samples where it is more than one
// chunk; nothing after a short while or when all stops.
std::vector<ProgramWorkers::Waiting> ProgramWorkers::take(size_t most) {
  std::unique_lock lock(mutex_);
  has_work_.wait_for(lock, kBetweenIdleChecks, [&] { return is_stopped_ || !waiting_.empty(); });
  std::vector<Waiting> request;
  if (is_stopped_ || waiting_.empty()) return request;
  const auto workers = static_cast<size_t>(num_workers_);
  most = std::min(most, (num_waiting_samples_ + workers - 1) / workers);
  size_t num_samples = 0;
  const auto fits = [&](const Waiting& next) {
    return request.empty() ||
           (!request.front().is_alone && !next.is_alone && next.chunk.step() == request.front().chunk.step() &&
            num_samples + next.chunk.size() <= most);
  };
  while (!waiting_.empty() && fits(waiting_.front())) {
    num_samples += waiting_.front().chunk.size();
    request.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  num_waiting_samples_ -= num_samples;
  return request;
}

void ProgramWorkers::ask(RewardProgram& program, const std::vector<Waiting>& request) {
  std::vector<Sample> joined;
  std::span<const Sample> samples = request.front().chunk.samples();
  if (request.size() > 1) {
    for (const Waiting& item : request)
      joined.insert(joined.end(), item.chunk.samples().begin(), item.chunk.samples().end());
    samples = joined;
  }
  const Row values = program.score(request.front().chunk.step(), samples);
  auto next = values.begin();
  for (const Waiting& item : request) {
    const auto end = next + static_cast<std::ptrdiff_t>(item.chunk.size());
    outcomes_.finish(item.chunk, Row(next, end));
    next = end;
  }
}

void ProgramWorkers::lose(std::vector<Waiting> request, const std::string& reason, const std::string& last_words) {
  if (request.size() <= 1) {
    outcomes_.say(
        options_.function,
        concat(reason, request.empty() ? ", while nothing was asked of it" : request.front().chunk.describe_loss(),
               last_words));
    for (const Waiting& item : request) outcomes_.finish_failed(item.chunk, reason);
    return;
  }
  outcomes_.say(options_.function, concat(reason, "; step ", request.front().chunk.step(), ", the ", request.size(),
                                          " parts of this request are asked for again one by one", last_words));
  {
    const std::lock_guard lock(mutex_);
    for (auto item = request.rbegin(); item != request.rend(); ++item) {
      item->is_alone = true;
      num_waiting_samples_ += item->chunk.size();
      waiting_.push_front(std::move(*item));
    }
  }
  has_work_.notify_all();
}

void ProgramWorkers::give_up(int64_t worker) {
  outcomes_.say(options_.function,
                concat("worker ", worker, " failed ", kMostFailuresInARow, " times in a row and is not started again"));
  std::deque<Waiting> left;
  {
    const std::lock_guard lock(mutex_);
    if (--num_workers_ > 0) return;
    why_given_up_ = concat("`", options_.program.command, "` was given up: each of its processes failed ",
                           kMostFailuresInARow, " times in a row");
    left.swap(waiting_);
  }
  for (const Waiting& item : left) outcomes_.finish_failed(item.chunk, why_given_up_);
}

std::string ProgramWorkers::name_of(int64_t worker) const {
  return concat("`", options_.program.command, "` (worker ", worker, ")");
}

}  // namespace dsft::rewards
