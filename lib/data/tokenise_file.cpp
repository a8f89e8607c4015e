#include "data/tokenise_file.h"

#include <atomic>
#include <exception>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/stopwatch.h"
#include "data/row_file.h"

namespace dsft::data {

namespace {

constexpr size_t kChunkRows = 4096;
constexpr size_t kChunkBytes = 32 << 20;
constexpr double kProgressSeconds = 5.0;

/// Rows that are tokenised together: what was read, and what became of each.
struct Chunk {
  std::vector<RawRow> rows;
  std::vector<Example> examples;
  std::vector<std::exception_ptr> failures;
};

bool read_chunk(RowFile& file, Chunk& chunk) {
  chunk = Chunk{};
  size_t bytes = 0;
  RawRow row;
  while (chunk.rows.size() < kChunkRows && bytes < kChunkBytes && file.next(row)) {
    bytes += row.line.size();
    chunk.rows.push_back(std::move(row));
  }
  chunk.examples.resize(chunk.rows.size());
  chunk.failures.resize(chunk.rows.size());
  return !chunk.rows.empty();
}

Example build_row(const RowFile& file, RawRow& row, ExampleBuilder& builder) {
  const auto value = file.parse(row);
  try {
    return builder.build(value);
  } catch (const Error& error) {
    throw at_row(error, file.describe(row));
  }
}

/// Each builder serves one thread, which takes the next row that nobody has. A row that fails ends that: those before
/// it are taken already, and it or one of them is the first bad row.
void build_chunk(const RowFile& file, Chunk& chunk, std::vector<ExampleBuilder>& builders) {
  std::atomic<size_t> next{0};
  std::atomic<bool> has_failed{false};
  const auto work = [&](ExampleBuilder& builder) {
    while (!has_failed) {  // asked before a row is taken: one that is taken is finished
      const size_t i = next++;
      if (i >= chunk.rows.size()) return;
      try {
        chunk.examples[i] = build_row(file, chunk.rows[i], builder);
      } catch (...) {
        chunk.failures[i] = std::current_exception();
        has_failed = true;
      }
    }
  };
  std::vector<std::jthread> threads;
  for (size_t i = 1; i < builders.size(); ++i) threads.emplace_back([&work, &builder = builders[i]] { work(builder); });
  work(builders[0]);
}

}  // namespace

RowFate settle_row(Example& example, const TokeniseOptions& options, RowCounts& counts) {
  ++counts.read;
  const auto length = static_cast<int64_t>(example.ids.size());
  if (example.num_supervised() == 0) {
    if (options.unsupervised_rows == UnsupervisedRows::kError)
      fail(ErrorKind::kData,
           "no token of this row is supervised, so there is nothing to learn from it (data.unsupervised_rows: error).");
    ++counts.dropped_unsupervised;
    return RowFate::kUnsupervised;
  }
  if (length > options.max_length) {
    if (options.overlong == Overlong::kError)
      fail(ErrorKind::kData, "the row has ", length, " tokens, more than data.max_length: ", options.max_length,
           " (data.overlong: error).");
    if (options.overlong == Overlong::kDrop) {
      ++counts.dropped_overlong;
      return RowFate::kOverlong;
    }
    example.ids.resize(static_cast<size_t>(options.max_length));
    example.labels.resize(static_cast<size_t>(options.max_length));
  }
  const int64_t num_supervised = example.num_supervised();
  if (num_supervised == 0) {
    if (options.unsupervised_rows == UnsupervisedRows::kError)
      fail(ErrorKind::kData, "the row has ", length, " tokens, and none of the first ", options.max_length,
           " (data.max_length) is supervised (data.unsupervised_rows: error).");
    ++counts.dropped_after_truncation;
    return RowFate::kUnsupervisedAfterTruncation;
  }
  if (length > options.max_length) ++counts.truncated;
  ++counts.kept;
  counts.tokens += static_cast<int64_t>(example.ids.size());
  counts.supervised_tokens += num_supervised;
  return RowFate::kKept;
}

RowCounts tokenise_file(const std::filesystem::path& path, const TextAssets& assets, const TokeniseOptions& options,
                        TokenCacheWriter& writer, const Logger& logger) {
  RowFile file = RowFile::open(path);
  std::vector<ExampleBuilder> builders;
  for (int i = 0; i < std::max(options.num_workers, 1); ++i)
    builders.emplace_back(assets, options.loss_on, options.template_kwargs);
  RowCounts counts;
  Chunk chunk;
  Stopwatch since_report;
  while (read_chunk(file, chunk)) {
    build_chunk(file, chunk, builders);
    for (size_t i = 0; i < chunk.rows.size(); ++i) {
      if (chunk.failures[i]) std::rethrow_exception(chunk.failures[i]);
      try {
        if (settle_row(chunk.examples[i], options, counts) == RowFate::kKept)
          writer.append(chunk.examples[i], chunk.rows[i].number);
      } catch (const Error& error) {
        throw Error(error.kind(), concat(file.describe(chunk.rows[i]), ": ", error.message()));
      }
    }
    if (since_report.seconds() > kProgressSeconds) {
      logger.info("tokenising ", path.string(), ": ", counts.read, " rows, ", counts.tokens, " tokens");
      since_report.restart();
    }
  }
  for (const ExampleBuilder& builder : builders) counts.without_eos += builder.num_without_eos();
  return counts;
}

}  // namespace dsft::data
