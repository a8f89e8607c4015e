#include "rl/completions_log.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "comm/small_collectives.h"
#include "io/file.h"

namespace dsft::rl {

CompletionsLog::CompletionsLog(std::filesystem::path path, comm::Communicator& communicator, const Logger& logger)
    : path_(std::move(path)), communicator_(communicator), logger_(logger) {}

void CompletionsLog::make_ready() {
  if (!continued_update_) {
    if (const auto renamed = report::set_aside(path_))
      logger_.warn(path_.string(), " of an earlier run is now ", renamed->filename().string());
    return;
  }
  std::ifstream file(path_);
  std::string kept;
  for (std::string line; std::getline(file, line);) {
    const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (object.is_object() && object.value("step", int64_t{0}) <= *continued_update_) kept += line + '\n';
  }
  io::replace_text_file(path_, kept);
}

void CompletionsLog::write(const std::vector<std::string>& objects) {
  std::string own;
  for (const std::string& object : objects) own += object + '\n';
  std::string all;
  for (int rank = 0; rank < communicator_.size(); ++rank) all += comm::broadcast_bytes(communicator_, own, rank);
  if (communicator_.rank() != 0) return;
  if (!file_)
    file_.emplace(
        path_,
        [this] {
          make_ready();
          return io::open_for_appending(path_);
        },
        [this](const std::string& text) { logger_.warn(text); });
  file_->append(all);
}

}  // namespace dsft::rl
