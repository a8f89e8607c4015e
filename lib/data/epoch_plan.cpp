#include "data/epoch_plan.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/counter_random.h"
#include "base/error.h"
#include "optim/schedule_config.h"

namespace dsft::data {

namespace {

constexpr double kMostRows = 1e9;  // of an epoch, for each of which its number is held in memory

/// Appends round(weight * n) rows of one file that starts at `begin`.
void take_file(std::vector<int64_t>& rows, int64_t begin, int64_t n, double weight, const CounterStream& stream) {
  if (n == 0) return;
  const double exact = weight * static_cast<double>(n);
  if (!(exact <= kMostRows))
    fail(ErrorKind::kData, "data.train: a weight of ", weight, " makes ", exact, " rows an epoch of a file's ", n,
         "; at most ", kMostRows, " are taken.");
  const int64_t wanted = std::llround(exact);
  for (int64_t pass = 0; pass < wanted / n; ++pass) {
    for (int64_t i = 0; i < n; ++i) rows.push_back(begin + i);
  }
  const int64_t remainder = wanted % n;
  if (remainder == 0) return;
  std::vector<int64_t> chosen = stream.permutation(n);
  chosen.resize(static_cast<size_t>(remainder));
  std::sort(chosen.begin(), chosen.end());
  for (int64_t i : chosen) rows.push_back(begin + i);
}

/// The open bins, found by room left.
class OpenBins {
 public:
  explicit OpenBins(int64_t capacity) : capacity_(capacity) {}

  /// The bin with the least room that takes `length`, or -1. Its room shrinks.
  int64_t place(int64_t length) {
    const auto found = by_room_.lower_bound({length, 0});
    if (found == by_room_.end()) return -1;
    const auto [room, bin] = *found;
    by_room_.erase(found);
    set_room(bin, room - length);
    return bin;
  }

  void open(int64_t length) {
    room_.push_back(0);
    set_room(static_cast<int64_t>(room_.size()) - 1, std::max<int64_t>(capacity_ - length, 0));
  }

  void close(int64_t bin) { by_room_.erase({room_[static_cast<size_t>(bin)], bin}); }

 private:
  void set_room(int64_t bin, int64_t room) {
    room_[static_cast<size_t>(bin)] = room;
    by_room_.insert({room, bin});
  }

  int64_t capacity_;
  std::vector<int64_t> room_;
  std::set<std::pair<int64_t, int64_t>> by_room_;
};

}  // namespace

std::vector<int64_t> epoch_order(int64_t num_rows, const EpochPlanOptions& options, int64_t epoch) {
  const std::vector<int64_t> begins = options.file_begins.empty() ? std::vector<int64_t>{0} : options.file_begins;
  DSFT_CHECK(options.file_weights.empty() || options.file_weights.size() == begins.size(), options.file_weights.size(),
             " weights for ", begins.size(), " files");
  std::vector<int64_t> rows;
  rows.reserve(static_cast<size_t>(num_rows));
  for (size_t file = 0; file < begins.size(); ++file) {
    const int64_t end = file + 1 < begins.size() ? begins[file + 1] : num_rows;
    const CounterStream stream(options.seed, hash_name("file remainder") + file, static_cast<uint64_t>(epoch));
    take_file(rows, begins[file], end - begins[file], options.file_weights.empty() ? 1.0 : options.file_weights[file],
              stream);
  }
  if (!options.shuffle) return rows;
  const CounterStream stream(options.seed, hash_name("shuffle"), static_cast<uint64_t>(epoch));
  std::vector<int64_t> shuffled;
  shuffled.reserve(rows.size());
  for (int64_t i : stream.permutation(static_cast<int64_t>(rows.size())))
    shuffled.push_back(rows[static_cast<size_t>(i)]);
  return shuffled;
}

std::vector<std::vector<int64_t>> pack_best_fit(const std::vector<int64_t>& lengths, int64_t capacity, int64_t window) {
  std::vector<std::vector<int64_t>> bins;
  OpenBins open(capacity);
  for (size_t i = 0; i < lengths.size(); ++i) {
    int64_t bin = open.place(lengths[i]);
    if (bin < 0) {
      bin = static_cast<int64_t>(bins.size());
      bins.emplace_back();
      open.open(lengths[i]);
      if (bin >= window) open.close(bin - window);
    }
    bins[static_cast<size_t>(bin)].push_back(static_cast<int64_t>(i));
  }
  return bins;
}

std::vector<Item> plan_epoch(const ExampleStore& store, const EpochPlanOptions& options, int64_t epoch) {
  const std::vector<int64_t> order = epoch_order(store.size(), options, epoch);
  if (order.empty())
    fail(ErrorKind::kData, "No row is left to train on: ", store.size(),
         " rows were kept, and the weights of data.train take none of them.");
  std::vector<Item> items;
  if (!options.packing) {
    items.reserve(order.size());
    for (size_t i = 0; i < order.size(); ++i) items.push_back({{order[i]}, {static_cast<int64_t>(i)}});
    return items;
  }
  std::vector<int64_t> lengths;
  lengths.reserve(order.size());
  for (int64_t row : order) lengths.push_back(store.length(row));
  for (std::vector<int64_t>& bin : pack_best_fit(lengths, options.max_length, options.packing_window)) {
    Item item;
    item.rows.reserve(bin.size());
    for (int64_t sample : bin) item.rows.push_back(order[static_cast<size_t>(sample)]);
    item.samples = std::move(bin);
    items.push_back(std::move(item));
  }
  return items;
}

int64_t count_updates(const ExampleStore& store, const EpochPlanOptions& options, double num_epochs,
                      int64_t items_per_update) {
  const auto updates_of = [&](int64_t epoch) {
    const auto num_items = static_cast<int64_t>(plan_epoch(store, options, epoch).size());
    return (num_items + items_per_update - 1) / items_per_update;
  };
  const auto require_bound = [&](double num_updates) {
    if (num_updates <= optim::kMostUpdates) return;
    fail(ErrorKind::kUsage, "training.num_train_epochs: ", num_epochs, " epochs are more than ", optim::kMostUpdates,
         " updates of this data, the most of one run.");
  };
  const auto updates_of_part = [&](double part, int64_t epoch) {
    const double num_updates = std::ceil(part * static_cast<double>(updates_of(epoch)));
    require_bound(num_updates);
    return static_cast<int64_t>(num_updates);
  };
  if (!options.packing) return updates_of_part(num_epochs, 0);
  const auto num_whole = static_cast<int64_t>(num_epochs);
  int64_t num_updates = 0;
  for (int64_t epoch = 0; epoch < num_whole; ++epoch) {
    num_updates += updates_of(epoch);
    require_bound(static_cast<double>(num_updates));
  }
  const double rest = num_epochs - static_cast<double>(num_whole);
  return rest > 0 ? num_updates + updates_of_part(rest, num_whole) : num_updates;
}

}  // namespace dsft::data
