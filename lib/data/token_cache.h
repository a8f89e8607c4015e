#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/example_store.h"
#include "io/file.h"

namespace dsft::data {

/// What became of the rows of a data file.
struct RowCounts {
  int64_t read = 0;  ///< rows in the file
  int64_t kept = 0;
  int64_t dropped_unsupervised = 0;      ///< no token to learn from
  int64_t dropped_overlong = 0;          ///< longer than max_length (data.overlong: drop)
  int64_t dropped_after_truncation = 0;  ///< the cut left no token to learn from
  int64_t truncated = 0;                 ///< cut and kept
  int64_t tokens = 0;                    ///< of the rows kept
  int64_t supervised_tokens = 0;         ///< of the rows kept
  int64_t without_eos = 0;               ///< rows of plain text that no token ends, for the tokenizer names none

  RowCounts& operator+=(const RowCounts& other);
  bool operator==(const RowCounts&) const = default;
};

/// "1,000 rows read, 990 kept, 10 dropped (4 without a supervised token, 6 longer than max_length), 3 cut; 52,000
/// tokens, 41.3 % supervised".
std::string describe(const RowCounts& counts);

/// Identifies what a cache file was made from; two independent hashes.
struct CacheKey {
  uint64_t first = 0;
  uint64_t second = 0;
  bool operator==(const CacheKey&) const = default;
};

/// The key of a text that names everything the tokens depend on.
CacheKey make_cache_key(const std::string& description);

/// Writes a cache file row by row under a temporary name; finish() makes it whole and visible in one step. An
/// unfinished file is removed; those that killed processes left in the folder, too. Throws kData where the disk is full
/// or the folder cannot be written, naming DSFT_CACHE.
/// Layout, little-endian, in this order: header (magic, key, counts, checksums); int32 tokens, a supervised one as its
/// complement; int64 starts of the rows and the end; int64 row numbers in the source; uint64 checksums of each row's
/// stored tokens; int32 supervised tokens a row.
class TokenCacheWriter {
 public:
  TokenCacheWriter(std::filesystem::path path, CacheKey key);
  ~TokenCacheWriter();
  TokenCacheWriter(const TokenCacheWriter&) = delete;
  TokenCacheWriter& operator=(const TokenCacheWriter&) = delete;

  /// `row_number`: line or row of the source, from 1.
  void append(const Example& example, int64_t row_number);
  void finish(const RowCounts& counts);

 private:
  void flush();
  void write(const void* data, uint64_t size);

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  CacheKey key_;
  io::FileDescriptor file_;
  std::vector<int32_t> buffer_;
  std::vector<int64_t> starts_{0};
  std::vector<int64_t> row_numbers_;
  std::vector<uint64_t> checksums_;
  std::vector<int32_t> supervised_;
};

/// A cache file: opening reads the index (28 bytes a row), each row is read when it is asked for, by pread, so that a
/// file that is cut later gives an error and no signal.
class TokenCache final : public ExampleStore {
 public:
  /// Opens a file that was made for `key`. nullptr where there is none; where it is damaged or of another make, `why`
  /// says so too.
  static std::unique_ptr<TokenCache> open(const std::filesystem::path& path, CacheKey key, std::string& why);
  ~TokenCache() override;

  int64_t size() const override;
  int64_t length(int64_t row) const override;
  int64_t num_supervised(int64_t row) const override;
  /// Throws kData where the stored tokens or their marks are not those that were written.
  Example read(int64_t row) const override;

  int64_t row_number(int64_t row) const;  ///< line or row in the source file, from 1
  const RowCounts& counts() const;
  CacheKey contents() const;  ///< of all rows: equal for equal tokens, marks and row numbers, whoever made them

 private:
  struct State;
  explicit TokenCache(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// The folder of cache files: DSFT_CACHE, else XDG_CACHE_HOME/dsft, else HOME/.cache/dsft, else dsft-cache in the
/// folder for temporary files.
std::filesystem::path default_cache_directory();

}  // namespace dsft::data
