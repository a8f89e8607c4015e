#include "launch/rank_logs.h"

#include <fstream>
#include <optional>

#include "base/error.h"
#include "base/parse_number.h"

namespace dsft::launch {
namespace {

using process::Stream;

bool is_shown(int rank, std::string_view line) {
  return rank == 0 || line.starts_with("warning");
}

/// A tag: [job,rank]<stdout>: and what it says.
struct Tag {
  size_t begin, end;
  int rank;
  Stream stream;
};

/// The tag whose "]<" is at `middle`.
std::optional<Tag> read_tag(std::string_view line, size_t middle) {
  const std::string_view behind = line.substr(middle);
  Stream stream = Stream::kStdout;
  size_t size = 0;
  for (const auto& [name, its_stream] : {std::pair<std::string_view, Stream>{"]<stdout>:", Stream::kStdout},
                                         {"]<stderr>:", Stream::kStderr},
                                         {"]<stddiag>:", Stream::kStderr}}) {
    if (!behind.starts_with(name)) continue;
    stream = its_stream;
    size = name.size();
  }
  const size_t begin = line.substr(0, middle).rfind('[');
  if (size == 0 || begin == std::string_view::npos) return std::nullopt;
  const std::string_view inside = line.substr(begin + 1, middle - begin - 1);
  const size_t comma = inside.rfind(',');
  if (comma == std::string_view::npos) return std::nullopt;
  const auto rank = parse_number<int>(inside.substr(comma + 1));
  if (!rank) return std::nullopt;
  return Tag{begin, middle + size, *rank, stream};
}

std::optional<Tag> find_tag(std::string_view line, size_t from) {
  for (size_t middle = line.find("]<std", from); middle != std::string_view::npos;
       middle = line.find("]<std", middle + 1)) {
    const auto tag = read_tag(line, middle);
    if (tag && tag->begin >= from) return tag;
  }
  return std::nullopt;
}

}  // namespace

std::filesystem::path rank_folder(const std::filesystem::path& folder, int rank, int num_ranks) {
  std::string number = std::to_string(rank);
  number.insert(0, std::to_string(num_ranks - 1).size() - number.size(), '0');
  return folder / ("rank." + number);
}

std::vector<TaggedPart> split_tagged(std::string_view line, bool has_space) {
  std::vector<TaggedPart> parts;
  std::optional<Tag> tag = find_tag(line, 0);
  if (!tag || tag->begin > 0) {
    const size_t end = tag ? tag->begin : line.size();
    parts.push_back({.text = line.substr(0, end), .ends_line = true});
  }
  while (tag) {
    size_t begin = tag->end;
    if (has_space && begin < line.size() && line[begin] == ' ') ++begin;
    const std::optional<Tag> next = find_tag(line, begin);
    const size_t end = next ? next->begin : line.size();
    parts.push_back({tag->rank, tag->stream, line.substr(begin, end - begin), !next});
    tag = next;
  }
  return parts;
}

struct RankLogs::Output {
  std::ofstream file;  ///< closed where no logs are kept
  process::LineSplitter splitter;
};

RankLogs::RankLogs(const std::filesystem::path& folder, int num_ranks, bool appends, OnLine on_line)
    : tails_(static_cast<size_t>(num_ranks)) {
  for (int rank = 0; rank < num_ranks; ++rank) {
    for (const Stream stream : {Stream::kStdout, Stream::kStderr}) {
      const bool is_error = stream == Stream::kStderr;
      auto on_rank_line = [=, this](std::string_view line) {
        Output& output = *outputs_[2 * static_cast<size_t>(rank) + is_error];
        if (output.file.is_open()) output.file << line << std::endl;
        if (is_error) tails_[static_cast<size_t>(rank)].add(line);
        if (is_error ? is_shown(rank, line) : rank == 0) on_line(stream, line);
      };
      outputs_.push_back(std::unique_ptr<Output>(new Output{{}, process::LineSplitter(std::move(on_rank_line))}));
      if (folder.empty()) continue;
      const std::filesystem::path own = rank_folder(folder, rank, num_ranks);
      std::error_code error;
      std::filesystem::create_directories(own, error);
      const std::filesystem::path path = own / (is_error ? "stderr" : "stdout");
      outputs_.back()->file.open(path, appends ? std::ios::app : std::ios::trunc);
      if (!outputs_.back()->file) {
        fail(ErrorKind::kUsage, "--log-dir ", folder.string(), ": ", path.string(), " cannot be written",
             error ? ": " + error.message() : std::string());
      }
    }
  }
}

RankLogs::~RankLogs() = default;

void RankLogs::add(const TaggedPart& part) {
  if (part.rank < 0 || part.rank >= static_cast<int>(tails_.size())) return;
  process::LineSplitter& splitter =
      outputs_[2 * static_cast<size_t>(part.rank) + (part.stream == Stream::kStderr)]->splitter;
  splitter.add(part.text);
  if (part.ends_line) splitter.add("\n");
}

void RankLogs::finish() {
  for (const auto& output : outputs_) output->splitter.finish();
}

const process::OutputTail& RankLogs::tail(int rank) const {
  return tails_[static_cast<size_t>(rank)];
}

}  // namespace dsft::launch
