#include "launch/rank_logs.h"

#include <fstream>

namespace dsft::launch {
namespace {

bool is_shown(int rank, std::string_view line) {
  return rank == 0 || line.starts_with("warning");
}

}  // namespace

std::filesystem::path rank_folder(const std::filesystem::path& folder, int rank, int num_ranks) {
  // mpirun pads rank numbers to the width of the largest one
  std::string number = std::to_string(rank);
  number.insert(0, std::to_string(num_ranks - 1).size() - number.size(), '0');
  return folder / ("rank." + number);
}

struct RankLogs::Log {
  std::filesystem::path path;
  process::LineSplitter splitter;
  std::streamoff position = 0;

  void read_new() {
    std::ifstream file(path, std::ios::binary);
    file.seekg(position);
    char buffer[16 << 10];
    while (file.read(buffer, sizeof buffer), file.gcount() > 0) {
      splitter.add({buffer, static_cast<size_t>(file.gcount())});
      position += file.gcount();
    }
  }
};

RankLogs::RankLogs(std::filesystem::path folder, int num_ranks, const OnLine& on_line)
    : tails_(static_cast<size_t>(num_ranks)) {
  const auto follow = [this](std::filesystem::path path, std::function<void(std::string_view)> on_log_line) {
    logs_.push_back(std::unique_ptr<Log>(new Log{std::move(path), process::LineSplitter(std::move(on_log_line))}));
  };
  for (int rank = 0; rank < num_ranks; ++rank) {
    const std::filesystem::path own = rank_folder(folder, rank, num_ranks);
    follow(own / "stdout", [=](std::string_view line) {
      if (rank == 0) on_line(process::Stream::kStdout, line);
    });
    follow(own / "stderr", [=, this](std::string_view line) {
      tails_[rank].add(line);
      if (is_shown(rank, line)) on_line(process::Stream::kStderr, line);
    });
  }
}

RankLogs::~RankLogs() = default;

void RankLogs::read_new() {
  for (const auto& log : logs_) log->read_new();
}

void RankLogs::finish() {
  for (const auto& log : logs_) {
    log->read_new();
    log->splitter.finish();
  }
}

const process::OutputTail& RankLogs::tail(int rank) const {
  return tails_[static_cast<size_t>(rank)];
}

}  // namespace dsft::launch
