#include "rl/completions_log.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "comm/small_collectives.h"
#include "io/file.h"

namespace dsft::rl {
namespace {

bool is_of_update_until(const std::string& line, int64_t update) {
  const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  const auto step = object.is_object() ? object.find("step") : object.end();
  return step != object.end() && step->is_number() && step->get<double>() <= static_cast<double>(update);
}

// Cuts the file behind its last whole record of these updates, of which it has the order.
void cut_behind(const std::filesystem::path& path, int64_t update) {
  std::error_code error;
  if (!std::filesystem::exists(path, error) && !error) return;
  io::open_for_reading(path);  // says why it cannot be
  std::ifstream file(path, std::ios::binary);
  uint64_t end = 0, kept = 0;
  for (std::string line; std::getline(file, line) && !file.eof();) {  // a line that does not end was cut short
    end += line.size() + 1;
    if (is_of_update_until(line, update)) kept = end;
  }
  if (!file.eof()) fail(ErrorKind::kCheckpoint, "Cannot read ", path.string(), " beyond byte ", end, ".");
  if (std::filesystem::file_size(path, error) != kept && !error) std::filesystem::resize_file(path, kept, error);
  if (error) fail(ErrorKind::kCheckpoint, "Cannot cut ", path.string(), ": ", error.message(), ".");
}

std::string to_lines(const std::vector<CompletionRecord>& records) {
  std::string lines;
  for (const CompletionRecord& record : records)
    lines += concat(record.group, ' ', record.generation, ' ', record.object, '\n');
  return lines;
}

// The objects of such lines of all ranks, in the order of groups and generations.
std::string in_order(const std::string& lines) {
  std::vector<CompletionRecord> records;
  std::istringstream stream(lines);
  for (CompletionRecord record; stream >> record.group >> record.generation;) {
    stream.get();
    std::getline(stream, record.object);
    records.push_back(record);
  }
  std::sort(records.begin(), records.end(), [](const CompletionRecord& a, const CompletionRecord& b) {
    return std::pair(a.group, a.generation) < std::pair(b.group, b.generation);
  });
  std::string objects;
  for (const CompletionRecord& record : records) objects += record.object + '\n';
  return objects;
}

}  // namespace

CompletionsLog::CompletionsLog(std::filesystem::path path, comm::Communicator& communicator, const Logger& logger)
    : path_(std::move(path)), communicator_(communicator), logger_(logger) {}

void CompletionsLog::begin(const train::RunPlan& plan) {
  file_.emplace(
      path_, [this, plan] { return open(plan); }, [this](const std::string& text) { logger_.warn(text); });
  file_->append("");
}

io::FileDescriptor CompletionsLog::open(const train::RunPlan& plan) const {
  if (!plan.is_new_run)
    cut_behind(path_, plan.first_step);
  else if (const auto renamed = report::set_aside(path_))
    logger_.warn(path_.string(), " of an earlier run is now ", renamed->filename().string());
  return io::open_for_appending(path_);
}

void CompletionsLog::write(const std::vector<CompletionRecord>& records) {
  std::string all;
  for (const std::string& of_rank : comm::all_gather_bytes(communicator_, to_lines(records))) all += of_rank;
  if (communicator_.rank() != 0) return;
  DSFT_CHECK(file_.has_value(), "completions before the run has begun");
  file_->append(in_order(all));
}

}  // namespace dsft::rl
