#include "rewards/reward_program.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "process/process_tree.h"

namespace dsft::rewards {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kBetweenChecks{50};
constexpr milliseconds kGraceAtTheEnd{300};
constexpr milliseconds kBoundOfKilling{2000};
constexpr size_t kMostProcesses = 256;
/// Above what runs on the machine: far from what programs need, near enough to keep a machine usable.
constexpr uint64_t kMostNewThreads = 16384;
constexpr const char* kMark = "DSFT_REWARD_WORKER";

/// How ranks find each other and their GPUs: a program that found itself among them would try to join.
bool is_of_ranks(std::string_view name) {
  static constexpr std::string_view kPrefixes[] = {"OMPI_", "OPAL_",  "ORTE_", "PMIX_",         "PMI_",       "PRTE_",
                                                   "MPI_",  "I_MPI_", "MV2_",  "HYDRA_",        "SLURM_",     "DSFT_",
                                                   "NCCL_", "GROUP_", "ROLE_", "TORCHELASTIC_", "TORCH_NCCL_"};
  static constexpr std::string_view kNames[] = {"RANK",        "LOCAL_RANK",  "WORLD_SIZE",     "LOCAL_WORLD_SIZE",
                                                "MASTER_ADDR", "MASTER_PORT", "MPI_LOCALRANKID"};
  const auto begins = [&](std::string_view prefix) { return name.starts_with(prefix); };
  return std::any_of(std::begin(kPrefixes), std::end(kPrefixes), begins) ||
         std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

process::Isolation make_isolation() {
  const auto memory = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return {{{RLIMIT_CORE, 0},
           {RLIMIT_DATA, memory / 2},
           {RLIMIT_NPROC, static_cast<uint64_t>(process::count_machine_threads()) + kMostNewThreads}}};
}

std::string next_mark() {
  static std::atomic<uint64_t> counter{0};
  return concat(::getpid(), "-", counter.fetch_add(1));
}

}  // namespace

std::vector<std::string> to_arguments(const std::string& command) {
  std::istringstream in(command);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  const bool is_plain = !words.empty() && command.find_first_of("\"'`$&|;<>()*?[]{}#~\\\n") == std::string::npos &&
                        words[0].find('=') == std::string::npos;
  return is_plain ? words : std::vector<std::string>{"sh", "-c", command};
}

std::string find_missing_program(const std::string& command) {
  const std::string program = to_arguments(command)[0];
  const auto can_run = [](const std::filesystem::path& path) {
    return std::filesystem::is_regular_file(path) && ::access(path.c_str(), X_OK) == 0;
  };
  if (program.find('/') != std::string::npos) return can_run(program) ? "" : program;
  const char* folders = std::getenv("PATH");
  std::istringstream in(folders ? folders : "/usr/bin:/bin");
  for (std::string folder; std::getline(in, folder, ':');)
    if (can_run(std::filesystem::path(folder.empty() ? "." : folder) / program)) return "";
  return program;
}

RewardProgram::RewardProgram(ProgramOptions options, const std::atomic<bool>& is_stopped)
    : options_(std::move(options)),
      is_stopped_(is_stopped),
      errors_([this](std::string_view line) { tail_.add(line); }) {}

RewardProgram::~RewardProgram() {
  end(kGraceAtTheEnd);
}

void RewardProgram::start() {
  end(milliseconds(0));
  output_ = {};
  tail_ = process::OutputTail(5);
  is_ending_ = false;
  mark_ = next_mark();
  num_threads_seen_ = process::count_machine_threads();
  try {
    child_ = std::make_unique<process::Child>(process::ChildOptions{
        .argv = to_arguments(options_.command),
        .environment = {{"CUDA_VISIBLE_DEVICES", ""}, {kMark, mark_}},
        .on_bytes = [this](process::Stream stream, std::string_view bytes) { take_output(stream, bytes); },
        .has_input = true,
        .drops_variable = is_of_ranks,
        .isolation = make_isolation(),
        .parent_death_signal = SIGKILL});
  } catch (const Error& error) {
    fail(ErrorKind::kData, error.message());
  }
  try {
    read_greeting(converse("", options_.start_timeout_s, longest_line(0), "its first line"));
    refuse_more("behind its first line");
  } catch (...) {
    end(milliseconds(0));
    throw;
  }
}

std::optional<process::ExitStatus> RewardProgram::take_end() {
  const auto status = child_ ? child_->wait_for(milliseconds(0)) : std::nullopt;
  if (status) end(milliseconds(0));
  return status;
}

std::vector<std::optional<double>> RewardProgram::score(int64_t step, std::span<const Sample> samples) {
  DSFT_CHECK(child_ != nullptr, "a reward program that does not run was asked");
  const int64_t id = next_id_++;
  const std::string reply = concat("its reply to request ", id);
  try {
    take_stray_output();
    const std::string line =
        converse(write_request(id, step, samples), options_.timeout_s, longest_line(samples.size()), reply);
    std::vector<std::optional<double>> rewards = read_reply(line, id, samples.size());
    refuse_more("behind " + reply);
    return rewards;
  } catch (...) {
    end(milliseconds(0));
    throw;
  }
}

void RewardProgram::check_idle() {
  if (!child_) return;
  try {
    take_stray_output();
    check_processes();
  } catch (...) {
    end(milliseconds(0));
    throw;
  }
}

std::string RewardProgram::last_words() const {
  std::string words = tail_.text();
  while (words.ends_with('\n')) words.pop_back();
  constexpr size_t kMost = 1000;
  if (words.size() > kMost) words.erase(0, words.size() - kMost);
  return words;
}

// The line that it writes when it has read the request.
std::string RewardProgram::converse(std::string_view request, double timeout_s, size_t longest,
                                    const std::string& what) {
  longest_line_ = longest;
  const auto deadline =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(timeout_s));
  while (true) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) fail(ErrorKind::kData, "did not write ", what, " within ", timeout_s, " s");
    if (is_stopped_) fail(ErrorKind::kData, "was stopped");
    request.remove_prefix(child_->exchange(request, std::min(left, kBetweenChecks)));
    std::optional<std::string> line = output_.next();
    const auto status = line ? std::nullopt : child_->wait_for(milliseconds(0));
    if (status) line = output_.next();  // its last words
    if (line && !request.empty())
      fail(ErrorKind::kData, "wrote `", shortened(*line), "` before it had read the whole request");
    if (line) return *line;
    if (status) fail(ErrorKind::kData, status->describe(), " before it had written ", what);
    check_processes();
  }
}

void RewardProgram::take_stray_output() {
  child_->exchange("", milliseconds(0));  // also its log, which must not fill the pipe
  refuse_more("that nobody had asked for");
}

void RewardProgram::refuse_more(std::string_view where) const {
  if (!output_.is_empty())
    fail(ErrorKind::kData, "wrote `", output_.beginning(), "` ", where,
         "; standard output is for replies, a log goes to standard error");
}

void RewardProgram::take_output(process::Stream stream, std::string_view bytes) {
  if (stream == process::Stream::kStdout) {
    if (!is_ending_) output_.add(bytes, longest_line_);
    return;
  }
  errors_.add(bytes);
  log(bytes);
}

void RewardProgram::log(std::string_view bytes) {
  if (options_.log_file.empty() || num_logged_ >= kMostLogBytes) return;
  if (!log_.is_open()) log_.open(options_.log_file, std::ios::app | std::ios::binary);
  bytes = bytes.substr(0, kMostLogBytes - num_logged_);
  log_ << bytes;
  num_logged_ += bytes.size();
  if (num_logged_ == kMostLogBytes) log_ << "\n[dsft keeps no more of this log]\n";
  log_.flush();
}

void RewardProgram::check_processes() {
  // looking at every process of the machine takes long: only where their number has grown
  const int64_t num_threads = process::count_machine_threads();
  const bool has_grown = num_threads > num_threads_seen_ + static_cast<int64_t>(kMostProcesses);
  if (has_grown || num_threads < num_threads_seen_) num_threads_seen_ = num_threads;
  if (!has_grown) return;
  const size_t num_processes = process::find_session(child_->pid()).size();
  if (num_processes > kMostProcesses)
    fail(ErrorKind::kData, "has started ", num_processes, " processes; at most ", kMostProcesses, " may run at a time");
}

void RewardProgram::end(milliseconds grace) {
  if (!child_) return;
  is_ending_ = true;
  child_->close_input();
  if (grace.count() > 0) child_->wait_for(grace);
  child_->kill_tree(milliseconds(0));
  child_.reset();
  errors_.finish();
  // also what left its parent, group and session
  const auto deadline = Clock::now() + kBoundOfKilling;
  for (auto left = process::find_with_variable(kMark, mark_); !left.empty() && Clock::now() < deadline;
       left = process::find_with_variable(kMark, mark_)) {
    process::send_signal(left, SIGKILL);
    std::this_thread::sleep_for(milliseconds(5));
  }
}

}  // namespace dsft::rewards
