#include "data/token_cache.h"

#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "io/checksum.h"

namespace dsft::data {

namespace {

constexpr std::array<char, 8> kMagic{'D', 'S', 'F', 'T', 'T', 'O', 'K', '2'};
constexpr size_t kBufferTokens = 1 << 18;
constexpr std::string_view kSuffix = ".tokens";
constexpr size_t kUniqueCharacters = 6;  // of mkstemp
constexpr std::chrono::seconds kYoungest{60};

struct Header {
  std::array<char, 8> magic = kMagic;
  CacheKey key;
  RowCounts counts;
  int64_t num_rows = 0;
  int64_t num_tokens = 0;
  uint64_t index_checksum = 0;   // of everything behind the tokens
  uint64_t header_checksum = 0;  // of the header up to here
};
static_assert(sizeof(Header) == 8 + 16 + 72 + 32);

uint64_t checksum_of(const Header& header) {
  return io::xxh64({reinterpret_cast<const char*>(&header), sizeof(Header) - sizeof(header.header_checksum)});
}

/// Bytes from the file's start to the index: the header and the tokens, rounded up to 8.
uint64_t index_offset(int64_t num_tokens) {
  return sizeof(Header) + (static_cast<uint64_t>(num_tokens) * 4 + 7) / 8 * 8;
}

uint64_t index_size(int64_t num_rows) {
  return static_cast<uint64_t>(num_rows) * (8 + 8 + 8 + 4) + 8;
}

uint64_t checksum_of(const int32_t* stored, size_t count) {
  return io::xxh3({reinterpret_cast<const char*>(stored), count * sizeof(int32_t)});
}

bool is_temporary(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  const size_t unique = name.rfind('.');
  return unique != std::string::npos && name.size() - unique - 1 == kUniqueCharacters &&
         std::string_view(name).substr(0, unique).ends_with(kSuffix);
}

/// Deletes what killed processes left. A writer holds a lock on its file; one that was made this moment may not have it
/// yet.
void remove_stale(const std::filesystem::path& folder) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    if (!is_temporary(entry.path())) continue;
    const auto age = std::filesystem::file_time_type::clock::now() - entry.last_write_time(ignored);
    if (ignored || age < kYoungest) continue;
    const io::FileDescriptor file(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
    if (file.is_open() && flock(file.get(), LOCK_EX | LOCK_NB) == 0) unlink(entry.path().c_str());
  }
}

std::string bytes_of(const void* data, size_t size) {
  return {static_cast<const char*>(data), size};
}

}  // namespace

CacheKey make_cache_key(const std::string& description) {
  return {io::xxh3(description), io::xxh64(description)};
}

TokenCacheWriter::TokenCacheWriter(std::filesystem::path path, CacheKey key) : path_(std::move(path)), key_(key) {
  std::error_code failure;
  std::filesystem::create_directories(path_.parent_path(), failure);
  remove_stale(path_.parent_path());
  std::string name = path_.string() + ".XXXXXX";  // a name of its own, so that two writers do not meet
  const int descriptor = mkstemp(name.data());
  if (descriptor < 0)
    fail(ErrorKind::kData, "Cannot write the cache of tokenised rows in ", path_.parent_path().string(), ": ",
         std::strerror(errno), ". Name a folder with room in the environment variable DSFT_CACHE.");
  file_ = io::FileDescriptor(descriptor);
  temporary_ = name;
  flock(descriptor, LOCK_EX | LOCK_NB);  // until it is closed; remove_stale looks for it
  const Header empty;
  write(&empty, sizeof empty);
}

TokenCacheWriter::~TokenCacheWriter() {
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void TokenCacheWriter::write(const void* data, uint64_t size) {
  try {
    io::write_all(file_.get(), temporary_, data, size, ErrorKind::kData);
  } catch (Error& error) {
    error.add_context(
        "while writing the cache of tokenised rows; name a folder with room in the environment variable DSFT_CACHE");
    throw;
  }
}

void TokenCacheWriter::flush() {
  write(buffer_.data(), buffer_.size() * sizeof(int32_t));
  buffer_.clear();
}

void TokenCacheWriter::append(const Example& example, int64_t row_number) {
  DSFT_CHECK(example.ids.size() == example.labels.size(), example.ids.size(), " ids, ", example.labels.size(),
             " labels");
  for (size_t i = 0; i < example.ids.size(); ++i) {
    const int32_t id = example.ids[i];
    DSFT_CHECK(id >= 0 && (example.labels[i] == kIgnored || example.labels[i] == id), "id ", id, ", label ",
               example.labels[i]);
    buffer_.push_back(example.labels[i] == kIgnored ? id : ~id);
  }
  const size_t length = example.ids.size();
  checksums_.push_back(checksum_of(buffer_.data() + buffer_.size() - length, length));
  starts_.push_back(starts_.back() + static_cast<int64_t>(length));
  row_numbers_.push_back(row_number);
  supervised_.push_back(static_cast<int32_t>(example.num_supervised()));
  if (buffer_.size() >= kBufferTokens) flush();
}

void TokenCacheWriter::finish(const RowCounts& counts) {
  flush();
  Header header;
  header.key = key_;
  header.counts = counts;
  header.num_rows = static_cast<int64_t>(row_numbers_.size());
  header.num_tokens = starts_.back();
  std::string index(index_offset(header.num_tokens) - sizeof(Header) - static_cast<uint64_t>(header.num_tokens) * 4,
                    '\0');
  const size_t padding = index.size();
  index += bytes_of(starts_.data(), starts_.size() * 8) + bytes_of(row_numbers_.data(), row_numbers_.size() * 8) +
           bytes_of(checksums_.data(), checksums_.size() * 8) + bytes_of(supervised_.data(), supervised_.size() * 4);
  header.index_checksum = io::xxh64(std::string_view(index).substr(padding));
  header.header_checksum = checksum_of(header);
  write(index.data(), index.size());
  DSFT_CHECK(lseek(file_.get(), 0, SEEK_SET) == 0, "cannot seek in ", temporary_.string());
  write(&header, sizeof header);
  io::sync_file(file_.get(), temporary_, ErrorKind::kData);
  fchmod(file_.get(), 0644);
  file_.close();
  if (rename(temporary_.c_str(), path_.c_str()) != 0)
    fail(ErrorKind::kData, "Cannot rename ", temporary_.string(), " to ", path_.string(), ": ", std::strerror(errno),
         ".");
  temporary_.clear();
}

struct TokenCache::State {
  /// "" for a whole file of this key, else what is wrong. Fills the header and the index.
  std::string read(CacheKey key);

  std::filesystem::path path;
  io::FileDescriptor file;
  Header header;
  std::vector<int64_t> starts, row_numbers;
  std::vector<uint64_t> checksums;
  std::vector<int32_t> supervised;
};

TokenCache::TokenCache(std::unique_ptr<State> state) : state_(std::move(state)) {}
TokenCache::~TokenCache() = default;

std::string TokenCache::State::read(CacheKey key) {
  const uint64_t size = io::file_size(file, path, ErrorKind::kData);
  if (size < sizeof(Header)) return "it is shorter than its header";
  io::read_exactly(file.get(), path, 0, sizeof(Header), &header, ErrorKind::kData);
  if (header.magic != kMagic) return "it is no cache file of this version";
  if (header.header_checksum != checksum_of(header)) return "its header is damaged";
  if (!(header.key == key)) return "it was made from something else";
  const bool has_sane_counts = header.num_rows >= 0 && header.num_tokens >= 0 &&
                               header.num_tokens < (int64_t{1} << 60) / 4 && header.num_rows <= header.num_tokens;
  if (!has_sane_counts || size != index_offset(header.num_tokens) + index_size(header.num_rows))
    return "its size is wrong";
  std::string index(index_size(header.num_rows), '\0');
  io::read_exactly(file.get(), path, index_offset(header.num_tokens), index.size(), index.data(), ErrorKind::kData);
  if (header.index_checksum != io::xxh64(index)) return "its index is damaged";
  const char* at = index.data();
  const auto take = [&at](auto& column, size_t count) {
    column.resize(count);
    if (count > 0) std::memcpy(column.data(), at, count * sizeof(column[0]));
    at += count * sizeof(column[0]);
  };
  const auto num_rows = static_cast<size_t>(header.num_rows);
  take(starts, num_rows + 1);
  take(row_numbers, num_rows);
  take(checksums, num_rows);
  take(supervised, num_rows);
  return "";
}

std::unique_ptr<TokenCache> TokenCache::open(const std::filesystem::path& path, CacheKey key, std::string& why) {
  why.clear();
  std::error_code missing;
  if (!std::filesystem::is_regular_file(path, missing)) return nullptr;
  auto state = std::make_unique<State>();
  state->path = path;
  state->file = io::open_for_reading(path, ErrorKind::kData);
  why = state->read(key);
  if (!why.empty()) return nullptr;
  return std::unique_ptr<TokenCache>(new TokenCache(std::move(state)));
}

int64_t TokenCache::size() const {
  return state_->header.num_rows;
}

int64_t TokenCache::length(int64_t row) const {
  return state_->starts[static_cast<size_t>(row) + 1] - state_->starts[static_cast<size_t>(row)];
}

int64_t TokenCache::num_supervised(int64_t row) const {
  return state_->supervised[static_cast<size_t>(row)];
}

int64_t TokenCache::row_number(int64_t row) const {
  return state_->row_numbers[static_cast<size_t>(row)];
}

CacheKey TokenCache::contents() const {
  // the index holds the length and the checksum of each row
  return {state_->header.index_checksum, static_cast<uint64_t>(state_->header.num_tokens)};
}

const RowCounts& TokenCache::counts() const {
  return state_->header.counts;
}

Example TokenCache::read(int64_t row) const {
  DSFT_CHECK(row >= 0 && row < size(), "row ", row, " of ", size());
  const auto index = static_cast<size_t>(row);
  std::vector<int32_t> stored(static_cast<size_t>(length(row)));
  const uint64_t offset = sizeof(Header) + static_cast<uint64_t>(state_->starts[index]) * sizeof(int32_t);
  io::read_exactly(state_->file.get(), state_->path, offset, stored.size() * sizeof(int32_t), stored.data(),
                   ErrorKind::kData);
  if (checksum_of(stored.data(), stored.size()) != state_->checksums[index])
    fail(ErrorKind::kData, "The cache file ", state_->path.string(), " is damaged at row ", row,
         ". Delete it; it will be made again.");
  Example example;
  example.labels.resize(stored.size(), kIgnored);
  for (size_t i = 0; i < stored.size(); ++i) {
    if (stored[i] >= 0) continue;
    stored[i] = ~stored[i];
    example.labels[i] = stored[i];
  }
  example.ids = std::move(stored);
  return example;
}

std::filesystem::path default_cache_directory() {
  const auto variable = [](const char* name) -> std::filesystem::path {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  if (!variable("DSFT_CACHE").empty()) return variable("DSFT_CACHE");
  if (!variable("XDG_CACHE_HOME").empty()) return variable("XDG_CACHE_HOME") / "dsft";
  if (!variable("HOME").empty()) return variable("HOME") / ".cache" / "dsft";
  return std::filesystem::temp_directory_path() / "dsft-cache";
}

}  // namespace dsft::data
