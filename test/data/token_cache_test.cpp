#include "data/token_cache.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "support/temp_dir.h"

using namespace dsft;
using namespace dsft::data;

namespace {

const CacheKey kKey = make_cache_key("a test");

std::vector<Example> examples() {
  return {{{5, 6, 7}, {kIgnored, kIgnored, 7}}, {{0, 1}, {kIgnored, 1}}, {{9, 0, 2, 3, 4}, {kIgnored, 0, 2, 3, 4}}};
}

RowCounts counts() {
  return {.read = 5, .kept = 3, .dropped_unsupervised = 2, .tokens = 10, .supervised_tokens = 6};
}

void write_cache(const std::filesystem::path& path) {
  TokenCacheWriter writer(path, kKey);
  int64_t line = 1;
  for (const Example& example : examples()) writer.append(example, line += 2);
  writer.finish(counts());
}

std::string contents(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void replace(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

}  // namespace

TEST_CASE("a cache gives back what was written, row by row", "[data]") {
  const test::TempDir folder;
  const auto path = folder.path() / "deep" / "rows.tokens";
  write_cache(path);
  std::string why;
  const auto cache = TokenCache::open(path, kKey, why);
  REQUIRE(cache);
  REQUIRE(cache->size() == 3);
  for (int64_t row : {2, 0, 1}) {
    const Example expected = examples()[static_cast<size_t>(row)];
    CHECK(cache->read(row).ids == expected.ids);
    CHECK(cache->read(row).labels == expected.labels);
    CHECK(cache->length(row) == static_cast<int64_t>(expected.ids.size()));
    CHECK(cache->num_supervised(row) == expected.num_supervised());
    CHECK(cache->row_number(row) == 3 + 2 * row);
  }
  CHECK(cache->counts() == counts());
}

TEST_CASE("a cache that is missing, unfinished or of another key is not opened", "[data]") {
  const test::TempDir folder;
  const auto path = folder.path() / "rows.tokens";
  std::string why;
  CHECK(TokenCache::open(path, kKey, why) == nullptr);
  CHECK(why.empty());
  { TokenCacheWriter unfinished(path, kKey); }
  CHECK(TokenCache::open(path, kKey, why) == nullptr);
  CHECK(std::filesystem::is_empty(folder.path()));
  write_cache(path);
  CHECK(TokenCache::open(path, make_cache_key("another"), why) == nullptr);
  CHECK(why == "it was made from something else");
}

TEST_CASE("a cache cut at any byte, or with a flipped byte in header or index, is not opened", "[data]") {
  const test::TempDir folder;
  const auto path = folder.path() / "rows.tokens";
  write_cache(path);
  const std::string whole = contents(path);
  std::string why;
  for (size_t size = 0; size < whole.size(); ++size) {
    replace(path, whole.substr(0, size));
    INFO(size);
    CHECK(TokenCache::open(path, kKey, why) == nullptr);
    CHECK(!why.empty());
  }
  // behind the tokens there is no padding here: 10 of them are a multiple of 8 bytes
  const size_t tokens_begin = 128, tokens_end = 128 + 10 * 4;
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x40);
    replace(path, damaged);
    const auto cache = TokenCache::open(path, kKey, why);
    INFO(i);
    if (i < tokens_begin || i >= tokens_end) {
      CHECK(cache == nullptr);
      continue;
    }
    REQUIRE(cache);
    const size_t token = (i - tokens_begin) / 4;
    CHECK_THROWS_WITH(cache->read(token < 3 ? 0 : token < 5 ? 1 : 2), Catch::Matchers::ContainsSubstring("damaged"));
  }
}

TEST_CASE("a token that loses its mark, and a file that is cut after it was opened, are errors", "[data]") {
  const test::TempDir folder;
  const auto path = folder.path() / "rows.tokens";
  write_cache(path);
  std::string whole = contents(path), why;
  int32_t last = 0;  // of the first row; stored as its complement
  std::memcpy(&last, whole.data() + 128 + 8, 4);
  REQUIRE(last == ~7);
  last = ~last;
  std::memcpy(whole.data() + 128 + 8, &last, 4);
  replace(path, whole);
  CHECK_THROWS_WITH(TokenCache::open(path, kKey, why)->read(0), Catch::Matchers::ContainsSubstring("damaged"));
  write_cache(path);
  const auto cache = TokenCache::open(path, kKey, why);
  std::filesystem::resize_file(path, 130);
  CHECK_THROWS_AS(cache->read(2), Error);
  CHECK(cache->length(2) == 5);
}

TEST_CASE("what killed writers left is deleted, what lives is not", "[data]") {
  const test::TempDir folder;
  const auto path = folder.path() / "rows.tokens", stale = folder.path() / "other-12.tokens.aB3xYz";
  const auto unrelated = folder.path() / "notes.abcdef", young = folder.path() / "new.tokens.aaaaaa";
  TokenCacheWriter living(path, kKey);
  for (const auto& file : {stale, unrelated, young}) replace(file, "x");
  const auto old = std::filesystem::file_time_type::clock::now() - std::chrono::hours(1);
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    if (entry.path() != young) std::filesystem::last_write_time(entry.path(), old);
  write_cache(folder.path() / "second.tokens");
  CHECK(!std::filesystem::exists(stale));
  CHECK(std::filesystem::exists(unrelated));
  CHECK(std::filesystem::exists(young));
  CHECK_NOTHROW(living.finish({}));
}

TEST_CASE("two writers of one cache do not disturb each other", "[data]") {
  const test::TempDir folder;
  const auto path = folder.path() / "rows.tokens";
  std::string why;
  {
    TokenCacheWriter slow(path, kKey);
    slow.append(examples()[0], 1);
    write_cache(path);
    CHECK(TokenCache::open(path, kKey, why));
    slow.append(examples()[1], 2);
    slow.finish({.read = 2, .kept = 2});
  }
  const auto cache = TokenCache::open(path, kKey, why);
  REQUIRE(cache);
  CHECK(cache->size() == 2);
}

TEST_CASE("a folder that cannot be written is an error that names DSFT_CACHE", "[data]") {
  CHECK_THROWS_WITH(TokenCacheWriter("/proc/none/rows.tokens", kKey), Catch::Matchers::ContainsSubstring("DSFT_CACHE"));
}

TEST_CASE("counts are said with their reasons", "[data]") {
  CHECK(describe(RowCounts{.read = 1200,
                           .kept = 1190,
                           .dropped_unsupervised = 4,
                           .dropped_overlong = 6,
                           .truncated = 3,
                           .tokens = 52000,
                           .supervised_tokens = 13000}) ==
        "1,200 rows read, 1,190 kept, 10 dropped (4 without a supervised token, 6 longer than max_length), 3 cut to "
        "max_length; 52,000 tokens, 25.0 % supervised");
  CHECK(describe(RowCounts{}) == "0 rows read, 0 kept; 0 tokens, 0.0 % supervised");
}
