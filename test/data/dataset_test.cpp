#include "data/dataset.h"

#include <fstream>
#include <set>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "support/fixtures.h"
#include "support/temp_dir.h"

using namespace dsft;
using namespace dsft::data;

namespace {

void write_file(const std::filesystem::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

/// A folder with a recipe's data section that reads rows.jsonl in it.
struct Fixture {
  test::TempDir folder;
  DataConfig config;

  Fixture() {
    config.train = {{(folder.path() / "rows.jsonl").string(), 1.0}};
    config.chat_template = (test::fixture_path("data/templates/chatml.jinja")).string();
    config.num_workers = 2;
    config.max_length = 24;
  }

  void write_rows(const std::string& rows) const { write_file(config.train[0].path, rows); }
  std::filesystem::path cache() const { return folder.path() / "cache"; }
  PreparedData prepare(uint64_t seed = 42) const {
    return prepare_data(config, {test::fixture_path("data/tokenizer"), cache(), seed}, Logger(0, true));
  }
  std::string fault() const {
    try {
      prepare();
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kData);
      return error.full_message();
    }
    return "no fault";
  }
  size_t num_cache_files() const {
    return static_cast<size_t>(
        std::distance(std::filesystem::directory_iterator(cache()), std::filesystem::directory_iterator()));
  }
};

std::string chat(const std::string& question, const std::string& answer) {
  return R"({"messages": [{"role": "user", "content": ")" + question + R"("}, {"role": "assistant", "content": ")" +
         answer + "\"}]}\n";
}

std::string many_rows(int n) {
  std::string rows;
  for (int i = 0; i < n; ++i) rows += R"({"text": "row )" + std::to_string(i) + "\"}\n";
  return rows;
}

std::vector<std::vector<int32_t>> ids_of(const ExampleStore& store) {
  std::vector<std::vector<int32_t>> ids;
  for (int64_t row = 0; row < store.size(); ++row) ids.push_back(store.read(row).ids);
  return ids;
}

}  // namespace

TEST_CASE("rows are tokenised once and then come from the cache", "[data]") {
  Fixture fixture;
  fixture.write_rows(many_rows(300));
  const auto first = fixture.prepare();
  CHECK(first.train->size() == 300);
  CHECK(first.train_counts.read == 300);
  const auto cache_file = std::filesystem::directory_iterator(fixture.cache())->path();
  const auto written = std::filesystem::last_write_time(cache_file);
  const auto second = fixture.prepare();
  CHECK(std::filesystem::last_write_time(cache_file) == written);
  CHECK(ids_of(*first.train) == ids_of(*second.train));
  CHECK(second.train_counts == first.train_counts);
  SECTION("another setting, template or content is another cache file") {
    fixture.config.max_length = 25;
    fixture.prepare();
    CHECK(fixture.num_cache_files() == 2);
    fixture.config.chat_template = (test::fixture_path("data/templates/thinking.jinja")).string();
    fixture.prepare();
    CHECK(fixture.num_cache_files() == 3);
    fixture.write_rows(many_rows(301));
    CHECK(fixture.prepare().train->size() == 301);
  }
  SECTION("a damaged cache file is made again") {
    std::filesystem::resize_file(cache_file, std::filesystem::file_size(cache_file) - 1);
    CHECK(ids_of(*fixture.prepare().train) == ids_of(*first.train));
  }
  SECTION("the number of threads changes nothing") {
    std::filesystem::remove(cache_file);
    fixture.config.num_workers = 5;
    CHECK(ids_of(*fixture.prepare().train) == ids_of(*first.train));
  }
}

TEST_CASE("long rows are cut, dropped or refused", "[data]") {
  Fixture fixture;
  fixture.write_rows(chat("Hi", "Yes.") + chat("Hi", "a b c d e f g h i j k l m n o p q r s t u v w x y z") +
                     chat("a b c d e f g h i j k l m n o p q r s t u v w x y z", "ok"));
  SECTION("truncate keeps the start, and drops what has no label left") {
    const auto data = fixture.prepare();
    CHECK(data.train->size() == 2);
    CHECK(data.train->length(1) == 24);
    CHECK(data.train_counts.truncated == 1);
    CHECK(data.train_counts.dropped_after_truncation == 1);
    CHECK(data.train->describe_row(1).ends_with("rows.jsonl:2"));
  }
  SECTION("drop") {
    fixture.config.overlong = Overlong::kDrop;
    const auto data = fixture.prepare();
    CHECK(data.train->size() == 1);
    CHECK(data.train_counts.dropped_overlong == 2);
  }
  SECTION("error names the line") {
    fixture.config.overlong = Overlong::kError;
    CHECK_THAT(fixture.fault(), Catch::Matchers::ContainsSubstring("rows.jsonl:2: the row has"));
  }
}

TEST_CASE("rows without a supervised token are dropped and counted, or refused", "[data]") {
  Fixture fixture;
  const std::string silent = "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}]}\n";
  fixture.write_rows(chat("a", "b") + "\n" + silent);
  CHECK(fixture.prepare().train_counts.dropped_unsupervised == 1);
  fixture.config.unsupervised_rows = UnsupervisedRows::kError;
  CHECK_THAT(fixture.fault(), Catch::Matchers::ContainsSubstring("rows.jsonl:3: no token"));
  fixture.config.unsupervised_rows = UnsupervisedRows::kDrop;
  fixture.write_rows(silent);
  CHECK_THAT(fixture.fault(), Catch::Matchers::ContainsSubstring("No row of data.train can be used"));
}

TEST_CASE("the first bad row in file order is reported, whatever thread found it", "[data]") {
  Fixture fixture;
  fixture.config.num_workers = 4;
  fixture.write_rows(many_rows(50) + "{\"text\": 1}\n" + many_rows(20) + "{\"nothing\": 1}\n");
  for (int i = 0; i < 5; ++i)
    CHECK_THAT(fixture.fault(), Catch::Matchers::ContainsSubstring("rows.jsonl:51: field \"text\": must be text"));
  CHECK(std::filesystem::is_empty(fixture.cache()));
}

TEST_CASE("a file cut at any byte gives its whole rows or an error with the line", "[data]") {
  Fixture fixture;
  const std::string rows =
      chat("Hé", "Oui 🙂") + "{\"prompt\": \"a\", \"completion\": \"b\"}\r\n" + "{\"token_ids\": [1, 2, 3]}\n";
  for (size_t size = 0; size < rows.size(); ++size) {
    fixture.write_rows(rows.substr(0, size));
    const std::string fault = fixture.fault();
    INFO(size << ": " << fault);
    const bool is_fine = fault == "no fault" || fault.find("rows.jsonl:") != std::string::npos ||
                         fault.find("No row of data.train") != std::string::npos;
    CHECK(is_fine);
  }
}

TEST_CASE(".json files hold a list of rows or a dict of columns", "[data]") {
  Fixture fixture;
  const auto path = fixture.folder.path() / "rows.json";
  fixture.config.train[0].path = path.string();
  write_file(path, R"([{"text": "a"}, {"text": "b"}])");
  const auto list = ids_of(*fixture.prepare().train);
  write_file(path, R"({"text": ["a", "b"], "source": [1, null]})");
  CHECK(ids_of(*fixture.prepare().train) == list);
  CHECK(fixture.prepare().train->describe_row(1).ends_with("rows.json: row 2"));
  write_file(path, R"({"text": ["a", "b"], "source": [1]})");
  CHECK_THAT(fixture.fault(), Catch::Matchers::ContainsSubstring("column \"source\" has 1 rows"));
  write_file(path, R"([{"text": "a"}, 3])");
  CHECK_THAT(fixture.fault(), Catch::Matchers::ContainsSubstring("rows.json: row 2 (line 1): a row is a JSON object"));
  write_file(path, "3");
  CHECK_THAT(fixture.fault(), Catch::Matchers::ContainsSubstring("list of objects"));
}

TEST_CASE("a missing file or an unknown kind is a clear fault", "[data]") {
  Fixture fixture;
  CHECK_THAT(fixture.fault(), Catch::Matchers::ContainsSubstring("does not exist"));
  fixture.config.train[0].path = (fixture.folder.path() / "rows.csv").string();
  write_file(fixture.config.train[0].path, "a,b\n");
  CHECK_THAT(fixture.fault(), Catch::Matchers::ContainsSubstring(".jsonl and .json"));
}

TEST_CASE("eval_fraction holds out the same rows whatever else is set", "[data]") {
  Fixture fixture;
  fixture.write_rows(many_rows(400));
  fixture.config.eval_fraction = 0.2;
  const auto data = fixture.prepare();
  CHECK(data.train->size() + data.eval->size() == 400);
  CHECK(data.eval->size() > 50);
  CHECK(data.eval->size() < 110);
  const auto eval = ids_of(*data.eval);
  CHECK(ids_of(*fixture.prepare(43).eval) != eval);
  std::set<std::vector<int32_t>> train;
  for (const auto& ids : ids_of(*data.train)) train.insert(ids);
  for (const auto& ids : eval) CHECK(!train.contains(ids));
  fixture.config.max_length = 100;
  CHECK(ids_of(*fixture.prepare().eval) == eval);
}

TEST_CASE("files keep their order, and weights their file", "[data]") {
  Fixture fixture;
  fixture.write_rows(many_rows(3));
  const auto second = fixture.folder.path() / "more.jsonl";
  write_file(second, many_rows(2));
  fixture.config.train.push_back({second.string(), 2.0});
  const auto data = fixture.prepare();
  const auto options = make_plan_options(fixture.config, *data.train, 1);
  CHECK(options.file_begins == std::vector<int64_t>{0, 3});
  CHECK(options.file_weights == std::vector<double>{1.0, 2.0});
  CHECK(data.train->describe_row(3).ends_with("more.jsonl:1"));
  CHECK(epoch_order(data.train->size(), options, 0).size() == 7);
}
