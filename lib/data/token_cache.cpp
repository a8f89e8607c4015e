#include "data/token_cache.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "io/checksum.h"

namespace dsft::data {

namespace {

constexpr std::array<char, 8> kMagic{'D', 'S', 'F', 'T', 'T', 'O', 'K', '1'};
constexpr size_t kBufferTokens = 1 << 18;

struct Header {
  std::array<char, 8> magic = kMagic;
  CacheKey key;
  RowCounts counts;
  int64_t num_rows = 0;
  int64_t num_tokens = 0;
  int64_t largest_id = 0;
  uint64_t index_checksum = 0;   // of everything behind the tokens
  uint64_t header_checksum = 0;  // of the header up to here
};
static_assert(sizeof(Header) == 8 + 16 + 64 + 40);

uint64_t checksum_of(const Header& header) {
  return io::xxh64({reinterpret_cast<const char*>(&header), sizeof(Header) - sizeof(header.header_checksum)});
}

/// Bytes from the file's start to the index: the header and the tokens, rounded up to 8.
uint64_t index_offset(int64_t num_tokens) {
  return sizeof(Header) + (static_cast<uint64_t>(num_tokens) * 4 + 7) / 8 * 8;
}

uint64_t index_size(int64_t num_rows) {
  return static_cast<uint64_t>(num_rows) * (8 + 8 + 4) + 8;
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
  std::string name = path_.string() + ".XXXXXX";  // a name of its own, so that two writers do not meet
  const int descriptor = mkstemp(name.data());
  if (descriptor < 0)
    fail(ErrorKind::kData, "Cannot write the cache of tokenised rows in ", path_.parent_path().string(), ": ",
         std::strerror(errno), ". Name a folder with room in the environment variable DSFT_CACHE.");
  file_ = io::FileDescriptor(descriptor);
  temporary_ = name;
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
    largest_id_ = std::max(largest_id_, id);
    buffer_.push_back(example.labels[i] == kIgnored ? id : ~id);
  }
  starts_.push_back(starts_.back() + static_cast<int64_t>(example.ids.size()));
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
  header.largest_id = largest_id_;
  std::string index(index_offset(header.num_tokens) - sizeof(Header) - static_cast<uint64_t>(header.num_tokens) * 4,
                    '\0');
  const size_t padding = index.size();
  index += bytes_of(starts_.data(), starts_.size() * 8) + bytes_of(row_numbers_.data(), row_numbers_.size() * 8) +
           bytes_of(supervised_.data(), supervised_.size() * 4);
  header.index_checksum = io::xxh64(std::string_view(index).substr(padding));
  header.header_checksum = checksum_of(header);
  write(index.data(), index.size());
  DSFT_CHECK(lseek(file_.get(), 0, SEEK_SET) == 0, "cannot seek in ", temporary_.string());
  write(&header, sizeof header);
  io::sync_file(file_.get(), temporary_);
  fchmod(file_.get(), 0644);
  file_.close();
  if (rename(temporary_.c_str(), path_.c_str()) != 0)
    fail(ErrorKind::kData, "Cannot rename ", temporary_.string(), " to ", path_.string(), ": ", std::strerror(errno),
         ".");
  temporary_.clear();
}

struct TokenCache::State {
  ~State() {
    if (map != nullptr) munmap(const_cast<char*>(map), size);
  }

  template <typename T>
  T at(uint64_t offset, int64_t index) const {
    T value;
    std::memcpy(&value, map + offset + static_cast<uint64_t>(index) * sizeof(T), sizeof(T));
    return value;
  }
  int64_t start(int64_t row) const { return at<int64_t>(index_offset(header.num_tokens), row); }
  uint64_t numbers_offset() const {
    return index_offset(header.num_tokens) + static_cast<uint64_t>(header.num_rows + 1) * 8;
  }
  uint64_t supervised_offset() const { return numbers_offset() + static_cast<uint64_t>(header.num_rows) * 8; }

  std::filesystem::path path;
  Header header;
  const char* map = nullptr;
  uint64_t size = 0;
};

TokenCache::TokenCache(std::unique_ptr<State> state) : state_(std::move(state)) {}
TokenCache::~TokenCache() = default;

namespace {

/// "" for a whole file of this key, else what is wrong.
std::string find_damage(const Header& header, CacheKey key, const char* map, uint64_t size) {
  if (header.magic != kMagic) return "it is no cache file of this version";
  if (header.header_checksum != checksum_of(header)) return "its header is damaged";
  if (!(header.key == key)) return "it was made from something else";
  const bool has_sane_counts = header.num_rows >= 0 && header.num_tokens >= 0 &&
                               header.num_tokens < (int64_t{1} << 60) / 4 && header.num_rows <= header.num_tokens;
  if (!has_sane_counts || size != index_offset(header.num_tokens) + index_size(header.num_rows))
    return "its size is wrong";
  if (header.index_checksum != io::xxh64({map + index_offset(header.num_tokens), index_size(header.num_rows)}))
    return "its index is damaged";
  return "";
}

}  // namespace

std::unique_ptr<TokenCache> TokenCache::open(const std::filesystem::path& path, CacheKey key, std::string& why) {
  why.clear();
  std::error_code missing;
  if (!std::filesystem::is_regular_file(path, missing)) return nullptr;
  const io::FileDescriptor file = io::open_for_reading(path, ErrorKind::kData);
  auto state = std::make_unique<State>();
  state->path = path;
  state->size = io::file_size(file, path, ErrorKind::kData);
  if (state->size < sizeof(Header)) {
    why = "it is shorter than its header";
    return nullptr;
  }
  void* map = mmap(nullptr, state->size, PROT_READ, MAP_SHARED, file.get(), 0);
  if (map == MAP_FAILED)
    fail(ErrorKind::kData, "Cannot map ", path.string(), " into memory: ", std::strerror(errno), ".");
  state->map = static_cast<const char*>(map);
  std::memcpy(&state->header, map, sizeof(Header));
  why = find_damage(state->header, key, state->map, state->size);
  if (!why.empty()) return nullptr;
  return std::unique_ptr<TokenCache>(new TokenCache(std::move(state)));
}

int64_t TokenCache::size() const {
  return state_->header.num_rows;
}

int64_t TokenCache::length(int64_t row) const {
  return state_->start(row + 1) - state_->start(row);
}

int64_t TokenCache::num_supervised(int64_t row) const {
  return state_->at<int32_t>(state_->supervised_offset(), row);
}

int64_t TokenCache::row_number(int64_t row) const {
  return state_->at<int64_t>(state_->numbers_offset(), row);
}

CacheKey TokenCache::key() const {
  return state_->header.key;
}

const RowCounts& TokenCache::counts() const {
  return state_->header.counts;
}

Example TokenCache::read(int64_t row) const {
  DSFT_CHECK(row >= 0 && row < size(), "row ", row, " of ", size());
  const int64_t start = state_->start(row);
  Example example;
  example.ids.resize(static_cast<size_t>(length(row)));
  example.labels.resize(example.ids.size(), kIgnored);
  for (size_t i = 0; i < example.ids.size(); ++i) {
    const auto stored = state_->at<int32_t>(sizeof(Header), start + static_cast<int64_t>(i));
    const int32_t id = stored < 0 ? ~stored : stored;
    if (id > state_->header.largest_id)
      fail(ErrorKind::kData, "The cache file ", state_->path.string(), " is damaged at row ", row,
           ". Delete it; it will be made again.");
    example.ids[i] = id;
    if (stored < 0) example.labels[i] = id;
  }
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
