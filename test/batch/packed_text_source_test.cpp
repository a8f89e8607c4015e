#include "batch/packed_text_source.h"

#include <algorithm>
#include <map>

#include "base/counter_random.h"
#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "device/device.h"

using namespace dsft;

namespace {

/// Row r has ids r * 100 + 1, r * 100 + 2, ...; all but the first are supervised.
class NumberedStore final : public data::ExampleStore {
 public:
  explicit NumberedStore(int64_t size) : size_(size) {}
  int64_t size() const override { return size_; }
  int64_t length(int64_t row) const override { return 2 + row * 7 % 11; }
  int64_t num_supervised(int64_t row) const override { return length(row) - 1; }
  data::Example read(int64_t row) const override {
    data::Example example;
    for (int64_t i = 0; i < length(row); ++i) example.ids.push_back(static_cast<int32_t>(row * 100 + 1 + i));
    example.labels = example.ids;
    example.labels[0] = data::kIgnored;
    return example;
  }

 private:
  int64_t size_;
};

data::EpochPlanOptions plan(bool packing) {
  data::EpochPlanOptions options;
  options.packing = packing;
  options.max_length = 16;
  return options;
}

PackedTextSource source(StepShape shape, bool packing = true, int64_t rows = 53) {
  return PackedTextSource(std::make_shared<NumberedStore>(rows), plan(packing), shape);
}

/// (epoch, sample) and ids of one document.
struct Seen {
  int64_t epoch;
  int64_t sample;
  std::vector<int64_t> ids;
  bool operator==(const Seen&) const = default;
};

/// torch prints lists of anything by this.
std::ostream& operator<<(std::ostream& out, const Seen& seen) {
  return out << "epoch " << seen.epoch << " sample " << seen.sample;
}

bool is_weightless(const Batch& batch) {
  return batch.num_tokens() == 1 && batch.labels[0].item<int64_t>() == -100;
}

void collect(const std::vector<Batch>& batches, std::vector<Seen>& seen) {
  for (const Batch& batch : batches) {
    if (is_weightless(batch)) continue;
    for (int64_t d = 0; d < batch.num_documents(); ++d) {
      const auto begin = batch.boundaries[static_cast<size_t>(d)], end = batch.boundaries[static_cast<size_t>(d) + 1];
      const int64_t* ids = batch.ids.data_ptr<int64_t>();
      seen.push_back({batch.epoch, batch.samples[d].item<int64_t>(), {ids + begin, ids + end}});
      CHECK(batch.labels[begin].item<int64_t>() == -100);
      CHECK(batch.positions[0][begin].item<int64_t>() == 0);
    }
  }
}

/// The documents of each update, over all ranks in rank order.
std::vector<std::vector<Seen>> run_ranks(StepShape shape, int64_t num_ranks, bool packing = true) {
  shape.num_ranks = num_ranks;
  std::vector<std::vector<Seen>> updates;
  std::vector<std::unique_ptr<PackedTextSource>> ranks;
  for (shape.rank = 0; shape.rank < num_ranks; ++shape.rank)
    ranks.push_back(std::make_unique<PackedTextSource>(std::make_shared<NumberedStore>(53), plan(packing), shape));
  while (true) {
    std::vector<Seen> seen;
    std::vector<size_t> num_batches;
    size_t ended = 0;
    for (auto& rank : ranks) {
      const auto batches = rank->next_step();
      ended += !batches;
      if (!batches) continue;
      num_batches.push_back(batches->size());
      collect(*batches, seen);
      CHECK(rank->position() == ranks[0]->position());
    }
    if (ended > 0) {
      CHECK(ended == ranks.size());
      return updates;
    }
    CHECK(std::equal(num_batches.begin() + 1, num_batches.end(), num_batches.begin()));
    updates.push_back(std::move(seen));
  }
}

}  // namespace

TEST_CASE("the shares of the ranks cover all items once, none much larger", "[batch]") {
  for (int64_t items : {0, 1, 5, 8, 17}) {
    for (int64_t ranks : {1, 2, 3, 8}) {
      int64_t at = 0;
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const ItemRange share = rank_share(items, rank, ranks);
        CHECK(share.begin == at);
        CHECK(share.end - share.begin - items / ranks <= 1);
        at = share.end;
      }
      CHECK(at == items);
    }
  }
}

TEST_CASE("the same items make an update for any split into ranks and micro-batches", "[batch]") {
  for (bool packing : {true, false}) {
    const auto reference = run_ranks({.items_per_micro_batch = 12, .num_epochs = 2}, 1, packing);
    CHECK(run_ranks({.items_per_micro_batch = 3, .micro_batches = 4, .num_epochs = 2}, 1, packing) == reference);
    CHECK(run_ranks({.items_per_micro_batch = 6, .num_epochs = 2}, 2, packing) == reference);
    CHECK(run_ranks({.items_per_micro_batch = 2, .micro_batches = 2, .num_epochs = 2}, 3, packing) == reference);
    CHECK(run_ranks({.items_per_micro_batch = 1, .num_epochs = 2}, 12, packing) == reference);
  }
}

TEST_CASE("packing on and off give the same documents with the same samples", "[batch]") {
  std::map<bool, std::vector<Seen>> seen;
  for (bool packing : {true, false}) {
    for (const auto& update : run_ranks({.items_per_micro_batch = 4, .num_epochs = 2}, 2, packing)) {
      seen[packing].insert(seen[packing].end(), update.begin(), update.end());
    }
    std::sort(seen[packing].begin(), seen[packing].end(),
              [](const Seen& a, const Seen& b) { return std::pair(a.epoch, a.sample) < std::pair(b.epoch, b.sample); });
  }
  CHECK(seen[true].size() == 2 * 53);
  CHECK(seen[true] == seen[false]);
}

TEST_CASE("a rank without an item gets a batch without weight", "[batch]") {
  auto rank = source({.items_per_micro_batch = 8, .rank = 7, .num_ranks = 8}, false, 5);
  const auto batches = rank.next_step();
  REQUIRE(batches);
  REQUIRE(batches->size() == 1);
  CHECK(is_weightless((*batches)[0]));
  CHECK(!rank.next_step());
}

TEST_CASE("smaller micro-batches make the same updates", "[batch]") {
  const bool packing = GENERATE(true, false);
  const StepShape shape{.items_per_micro_batch = 5, .micro_batches = 2, .num_epochs = 2};
  auto whole = source(shape, packing), halved = source(shape, packing);
  const std::vector<std::optional<int64_t>> sizes = {5, 3, 2, 1, std::nullopt};
  for (size_t step = 0;; ++step) {
    if (step > 0) CHECK(halved.halve_micro_batches() == sizes[std::min(step, sizes.size() - 1)]);
    CHECK(halved.items_per_micro_batch() == sizes[std::min(step, sizes.size() - 2)]);
    const auto batches = halved.next_step(), expected = whole.next_step();
    REQUIRE(batches.has_value() == expected.has_value());
    if (!batches) break;
    std::vector<Seen> seen, seen_whole;
    collect(*batches, seen);
    collect(*expected, seen_whole);
    CHECK(seen == seen_whole);
    CHECK(halved.position() == whole.position());
    if (step == 1) CHECK(batches->size() == 4);  // ten items, three in each
  }
}

TEST_CASE("no micro-batch is larger than the largest, which takes nothing away from the next update", "[batch]") {
  const bool packing = GENERATE(true, false);
  const StepShape shape{.items_per_micro_batch = 3};
  auto asked = source(shape, packing), other = source(shape, packing);
  const int64_t largest = asked.largest_micro_batch().num_tokens();
  int64_t most = 0;
  while (const auto batches = asked.next_step()) {
    most = std::max(most, (*batches)[0].num_tokens());
    CHECK(asked.largest_micro_batch().num_tokens() == largest);
    const auto expected = other.next_step();
    CHECK((*batches)[0].ids.equal((*expected)[0].ids));
  }
  CHECK(most <= largest);
  CHECK(largest == (packing ? 3 * 16 : 3 * 12));  // full bins; the longest rows
}

TEST_CASE("batches for the CPU are used as they were made", "[batch]") {
  Batch batch = (*source({.items_per_micro_batch = 2}).next_step())[0];
  Batch same = batch.pinned_for(at::kCPU), moved = batch.to(at::kCPU);
  for (size_t i = 0; i < batch.device_tensors().size(); ++i) {
    CHECK(same.device_tensors()[i]->unsafeGetTensorImpl() == batch.device_tensors()[i]->unsafeGetTensorImpl());
    CHECK(moved.device_tensors()[i]->unsafeGetTensorImpl() == batch.device_tensors()[i]->unsafeGetTensorImpl());
  }
}

TEST_CASE("batches for a GPU are read into pinned memory, and copied from there as they are", "[batch][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  const at::Device gpu(at::kCUDA, 0);
  const StepShape shape{.items_per_micro_batch = 2, .micro_batches = 2};
  PackedTextSource for_gpu(std::make_shared<NumberedStore>(53), plan(true), shape, gpu);
  auto for_cpu = source(shape);
  for (int step = 0; step < 3; ++step) {  // the first is read at once, the others in the background
    std::vector<Batch> batches = *for_gpu.next_step(), expected = *for_cpu.next_step();
    REQUIRE(batches.size() == expected.size());
    for (size_t b = 0; b < batches.size(); ++b) {
      Batch on_gpu = batches[b];
      {
        const device::WaitsForbidden forbidden;
        on_gpu = batches[b].to(gpu);
      }
      for (size_t i = 0; i < on_gpu.device_tensors().size(); ++i) {
        const at::Tensor& host = *batches[b].device_tensors()[i];
        if (!host.defined()) continue;
        CHECK(host.is_pinned());
        CHECK(device::pinned_for(gpu, host).const_data_ptr() == host.const_data_ptr());
        CHECK(on_gpu.device_tensors()[i]->cpu().equal(*expected[b].device_tensors()[i]));
      }
    }
  }
}

TEST_CASE("a restored source goes on where the saved one stood, with any rank count", "[batch]") {
  const auto whole = run_ranks({.items_per_micro_batch = 4, .num_epochs = 3}, 1);
  auto saved = source({.items_per_micro_batch = 4, .num_epochs = 3});
  const int64_t steps = saved.steps_per_epoch();
  for (int64_t stop : {int64_t{0}, int64_t{1}, steps - 1, steps, steps + 2}) {
    auto first = source({.items_per_micro_batch = 4, .num_epochs = 3});
    for (int64_t i = 0; i < stop; ++i) first.next_step();
    std::vector<std::vector<Seen>> rest;
    std::vector<std::unique_ptr<PackedTextSource>> ranks;
    for (int64_t r = 0; r < 2; ++r) {
      ranks.push_back(std::make_unique<PackedTextSource>(
          std::make_shared<NumberedStore>(53), plan(true),
          StepShape{.items_per_micro_batch = 2, .rank = r, .num_ranks = 2, .num_epochs = 3}));
      ranks.back()->next_step();  // so that something has been read ahead
      ranks.back()->restore(first.position(), 0);
    }
    while (auto batches = ranks[0]->next_step()) {
      rest.emplace_back();
      collect(*batches, rest.back());
      collect(*ranks[1]->next_step(), rest.back());
    }
    CHECK(rest == std::vector<std::vector<Seen>>(whole.begin() + stop, whole.end()));
  }
}

TEST_CASE("progress counts epochs", "[batch]") {
  auto one = source({.items_per_micro_batch = 4, .num_epochs = 2});
  const int64_t steps = one.steps_per_epoch();
  CHECK(one.epoch_progress() == 0.0);
  for (int64_t i = 0; i < steps; ++i) one.next_step();
  CHECK(one.epoch_progress() == 1.0);
  one.next_step();
  CHECK(one.epoch_progress() > 1.0);
  CHECK(one.position().epoch == 1);
}

TEST_CASE("the updates of several epochs are those that the source gives", "[batch]") {
  const bool packing = GENERATE(true, false);
  const int64_t num_epochs = GENERATE(1, 7);
  auto one = source({.items_per_micro_batch = 2, .num_epochs = num_epochs}, packing);
  const NumberedStore store(53);
  const int64_t expected = data::count_updates(store, plan(packing), static_cast<double>(num_epochs), 2);
  int64_t num_steps = 0;
  while (one.next_step()) ++num_steps;
  CHECK(num_steps == expected);
  // ceil(1.5 * 27) rows by two
  if (!packing) CHECK(data::count_updates(store, plan(packing), 1.5, 2) == 41);
  CHECK_THROWS_WITH(data::count_updates(store, plan(packing), 999999, 2),
                    Catch::Matchers::ContainsSubstring("10000000"));
}

TEST_CASE("a position that the data does not have is refused", "[batch]") {
  auto one = source({});
  CHECK_THROWS_WITH(one.restore({0, 1000}, 0), Catch::Matchers::ContainsSubstring("item 1000 of epoch 0"));
  CHECK_THROWS_AS(one.restore({-1, 0}, 0), Error);
}
