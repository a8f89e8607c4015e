#include "rl/completions_log.h"

#include "comm/small_collectives.h"
#include "io/file.h"

namespace dsft::rl {

CompletionsLog::CompletionsLog(std::filesystem::path path, comm::Communicator& communicator, const Logger& logger)
    : path_(std::move(path)), communicator_(communicator), logger_(logger) {}

void CompletionsLog::write(const std::vector<std::string>& objects) {
  std::string own;
  for (const std::string& object : objects) own += object + '\n';
  std::string all;
  for (int rank = 0; rank < communicator_.size(); ++rank) all += comm::broadcast_bytes(communicator_, own, rank);
  if (communicator_.rank() != 0) return;
  if (!file_) {
    const auto warn = [this](const std::string& text) { logger_.warn(text); };
    if (is_new_run_) {
      if (const auto renamed = report::set_aside(path_))
        warn(concat(path_.string(), " of an earlier run is now ", renamed->filename().string()));
    }
    file_.emplace(
        path_, [this] { return io::open_for_appending(path_); }, warn);
  }
  file_->append(all);
}

}  // namespace dsft::rl
