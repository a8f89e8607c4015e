#include "data/epoch_plan.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "base/counter_random.h"
#include "base/stopwatch.h"
#include "catch_amalgamated.hpp"

using namespace dsft;
using namespace dsft::data;

namespace {

/// A store of which only the lengths matter.
class LengthStore final : public ExampleStore {
 public:
  explicit LengthStore(std::vector<int64_t> lengths) : lengths_(std::move(lengths)) {}
  int64_t size() const override { return static_cast<int64_t>(lengths_.size()); }
  int64_t length(int64_t row) const override { return lengths_[static_cast<size_t>(row)]; }
  int64_t num_supervised(int64_t row) const override { return length(row) - 1; }
  Example read(int64_t) const override { return {}; }

 private:
  std::vector<int64_t> lengths_;
};

LengthStore random_store(int64_t n, int64_t longest) {
  const CounterStream stream(7, hash_name("lengths"));
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < n; ++i)
    lengths.push_back(2 +
                      static_cast<int64_t>(stream.below(static_cast<uint64_t>(i), static_cast<uint64_t>(longest - 1))));
  return LengthStore(std::move(lengths));
}

/// (row, sample) of every document, sorted by sample.
std::vector<std::pair<int64_t, int64_t>> documents_of(const std::vector<Item>& items) {
  std::vector<std::pair<int64_t, int64_t>> documents;
  for (const Item& item : items) {
    REQUIRE(item.rows.size() == item.samples.size());
    for (size_t i = 0; i < item.rows.size(); ++i) documents.emplace_back(item.samples[i], item.rows[i]);
  }
  std::sort(documents.begin(), documents.end());
  return documents;
}

}  // namespace

TEST_CASE("an epoch holds every row once, in an order of its own", "[data]") {
  const EpochPlanOptions options{.seed = 3};
  const auto first = epoch_order(1000, options, 0);
  const auto second = epoch_order(1000, options, 1);
  CHECK(first != second);
  CHECK(epoch_order(1000, options, 0) == first);
  CHECK(epoch_order(1000, {.seed = 4}, 0) != first);
  auto sorted = first;
  std::sort(sorted.begin(), sorted.end());
  std::vector<int64_t> all(1000);
  std::iota(all.begin(), all.end(), 0);
  CHECK(sorted == all);
  CHECK(epoch_order(1000, {.shuffle = false}, 5) == all);
}

TEST_CASE("a file of weight w gives whole passes and a remainder without replacement", "[data]") {
  EpochPlanOptions options;
  options.file_begins = {0, 100, 140};
  options.file_weights = {2.25, 0.5, 0.0};
  for (int64_t epoch : {0, 1}) {
    std::map<int64_t, int> times;
    for (int64_t row : epoch_order(150, options, epoch)) ++times[row];
    int twice = 0, three_times = 0, from_second = 0;
    for (const auto& [row, count] : times) {
      REQUIRE(row < 140);
      if (row < 100) {
        twice += count == 2;
        three_times += count == 3;
      } else {
        CHECK(count == 1);
        ++from_second;
      }
    }
    CHECK(twice == 75);
    CHECK(three_times == 25);
    CHECK(from_second == 20);
  }
}

TEST_CASE("best fit takes the fullest bin that has room, the oldest of equals", "[data]") {
  using Bins = std::vector<std::vector<int64_t>>;
  CHECK(pack_best_fit({6, 5, 4, 5}, 10, 1024) == Bins{{0, 2}, {1, 3}});
  CHECK(pack_best_fit({7, 7, 3, 3}, 10, 1024) == Bins{{0, 2}, {1, 3}});
  CHECK(pack_best_fit({9, 5, 1, 5}, 10, 1024) == Bins{{0, 2}, {1, 3}});
  CHECK(pack_best_fit({10, 10}, 10, 1024) == Bins{{0}, {1}});
  CHECK(pack_best_fit({}, 10, 1024).empty());
  SECTION("a bin that has left the window is not filled any more") {
    CHECK(pack_best_fit({6, 7, 4}, 10, 1) == Bins{{0}, {1}, {2}});
    CHECK(pack_best_fit({6, 7, 4}, 10, 2) == Bins{{0, 2}, {1}});
  }
}

TEST_CASE("packing changes neither the documents nor their samples, and wastes little", "[data]") {
  const LengthStore store = random_store(5000, 600);
  EpochPlanOptions options{.max_length = 1024};
  const auto packed = plan_epoch(store, options, 2);
  options.packing = false;
  const auto rows = plan_epoch(store, options, 2);
  CHECK(documents_of(packed) == documents_of(rows));
  CHECK(rows.size() == 5000);
  int64_t tokens = 0;
  for (const Item& item : packed) {
    int64_t length = 0;
    for (int64_t row : item.rows) length += store.length(row);
    REQUIRE(length <= 1024);
    tokens += length;
  }
  CHECK(static_cast<double>(tokens) > 0.97 * 1024 * static_cast<double>(packed.size()));
  int64_t previous = -1;
  for (const Item& item : packed) {  // in the order of opening
    CHECK(item.samples.front() > previous);
    previous = item.samples.front();
  }
}

TEST_CASE("an epoch without rows is an error", "[data]") {
  CHECK_THROWS_WITH(plan_epoch(LengthStore({}), {}, 0), Catch::Matchers::ContainsSubstring("No row is left"));
}

TEST_CASE("the plan of a million rows takes about a second", "[data]") {
  const LengthStore store = random_store(1'000'000, 900);
  const Stopwatch watch;
  const auto items = plan_epoch(store, {}, 0);
  CHECK(items.size() > 100'000);
  CHECK(watch.seconds() < 5.0);  // under a second on an idle core; the bound is for a busy machine
}

TEST_CASE("Updates are counted as transformers counts them, with packing epoch by epoch", "[data]") {
  EpochPlanOptions options{.packing = GENERATE(false, true), .max_length = 8};
  const LengthStore rows({8, 8, 8, 8, 8});  // each fills a bin: five items in every epoch
  CHECK(count_updates(rows, options, 1.0, 2) == 3);
  CHECK(count_updates(rows, options, 2.5, 2) == 8);  // 3 + 3 + ceil(1.5), ceil(2.5 * 3)
  CHECK(count_updates(rows, options, 0.1, 2) == 1);
  CHECK(count_updates(rows, options, 3.0, 5) == 3);
  if (!options.packing) return;
  const LengthStore mixed = random_store(300, 8);  // bins differ from epoch to epoch
  int64_t expected = 0;
  for (int64_t epoch = 0; epoch < 7; ++epoch)
    expected += (static_cast<int64_t>(plan_epoch(mixed, options, epoch).size()) + 2) / 3;
  CHECK(count_updates(mixed, options, 7.0, 3) == expected);
}
