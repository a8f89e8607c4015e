// Data files and settings at the edge of what is taken.
#include <ctime>

#include "base/stopwatch.h"
#include "data/dataset.h"
#include "data/row_file.h"
#include "support/fixtures.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using namespace dsft;
using namespace dsft::data;

namespace {

std::string describe_all(const std::filesystem::path& path) {
  RowFile file = RowFile::open(path);
  std::string found;
  for (RawRow row; file.next(row);) found += std::filesystem::path(file.describe(row)).filename().string() + "\n";
  return found;
}

size_t num_files(const std::filesystem::path& folder) {
  return static_cast<size_t>(
      std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()));
}

}  // namespace

TEST_CASE("what pandas writes by default is refused with what to write", "[data]") {
  const test::TempDir folder;
  // pandas.DataFrame({"text": ["a", "b"]}).to_json("rows.json")
  const auto path = folder.write("rows.json", R"({"text":{"0":"a","1":"b"}})");
  test::require_error(ErrorKind::kData, {"rows.json", "\"text\"", "orient=\"records\""}, [&] { RowFile::open(path); });
}

TEST_CASE("a row of a list is found by its line", "[data]") {
  const test::TempDir folder;
  const auto list =
      folder.write("list.json", "[\n  {\"text\": \"a, [ \\\" {\"},\n\n  {\"text\":\n [1, 2]}, {\"x\": {}}\n]\n");
  CHECK(describe_all(list) == "list.json: row 1 (line 2)\nlist.json: row 2 (line 4)\nlist.json: row 3 (line 5)\n");
  const auto columns = folder.write("columns.json", R"({"text": ["a", "b"]})");
  CHECK(describe_all(columns) == "columns.json: row 1\ncolumns.json: row 2\n");
}

TEST_CASE("a template that asks for the date has a cache of each day", "[data]") {
  const test::TempDir folder;
  DataConfig config;
  config.train = {
      {folder
           .write("rows.jsonl",
                  R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]})")
           .string(),
       1.0}};
  config.num_workers = 1;
  const auto prepare = [&](const std::string& source) {
    config.chat_template = folder.write("own.jinja", source).string();
    prepare_data(config, {test::fixture_path("data/tokenizer"), folder / "cache", 42}, Logger(0, true));
  };
  const std::string turns = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
  const auto in_zone = [&](const char* zone, const std::string& source) {  // these two never have the same date
    setenv("TZ", zone, 1);
    tzset();
    prepare(source);
  };
  in_zone("XXX12", turns);
  in_zone("XXX-14", turns);
  CHECK(num_files(folder / "cache") == 1);
  in_zone("XXX12", "{{ strftime_now('%d %b %Y') }}" + turns);
  in_zone("XXX-14", "{{ strftime_now('%d %b %Y') }}" + turns);
  unsetenv("TZ");
  tzset();
  CHECK(num_files(folder / "cache") == 3);
}

TEST_CASE("rows of plain text without an end are counted", "[data]") {
  const test::TempDir folder;
  const auto tokenizer = test::fixture_path("data/tokenizer");
  std::filesystem::copy_file(tokenizer / "tokenizer.json", folder / "tokenizer.json");
  DataConfig config;
  config.train = {
      {folder.write("rows.jsonl", "{\"text\": \"Hi\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n").string(), 1.0}};
  const auto count = [&](const std::filesystem::path& model) {
    return prepare_data(config, {model, folder / "cache", 42}, Logger(-1)).train_counts.without_eos;
  };
  CHECK(count(tokenizer) == 0);
  CHECK(count(folder.path()) == 2);
}

TEST_CASE("a file of rows that all fail, each after long work, ends at the first", "[data]") {
  const test::TempDir folder;
  DataConfig config;
  std::string rows;
  for (int i = 0; i < 1000; ++i)
    rows +=
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n";
  config.train = {{folder.write("rows.jsonl", rows).string(), 1.0}};
  config.chat_template = folder
                             .write("loop.jinja",
                                    "{% for m in messages %}{% for i in range(99000) %}{% for j in range(99000) %}"
                                    "{% endfor %}{% endfor %}{{ m.content }}{% endfor %}")
                             .string();
  config.num_workers = 2;
  const Stopwatch watch;
  test::require_error(ErrorKind::kData, {"rows.jsonl:1: ", "does it loop for ever"}, [&] {
    prepare_data(config, {test::fixture_path("data/tokenizer"), folder / "cache", 42}, Logger(-1));
  });
  CHECK(watch.seconds() < 10);  // all of them take minutes
}

TEST_CASE("no number of threads and no weight ends in anything but an answer", "[data]") {
  const test::TempDir folder;
  DataConfig config;
  config.train = {{folder.write("rows.jsonl", "{\"text\": \"Hi\"}\n").string(), 1.0}};
  config.num_workers = int64_t{1} << 40;
  const auto data = prepare_data(config, {test::fixture_path("data/tokenizer"), folder / "cache", 42}, Logger(-1));
  EpochPlanOptions options;
  options.file_begins = {0};
  options.file_weights = {2e9};
  test::require_error(ErrorKind::kData, {"weight", "rows an epoch"}, [&] { plan_epoch(*data.train, options, 0); });
}
