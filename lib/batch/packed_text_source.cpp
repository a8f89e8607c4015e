#include "batch/packed_text_source.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/error.h"

namespace dsft {

namespace {

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/// Stands in where a rank has no item: one token, no label. The trainer's sums do not change by it.
Batch weightless_batch(int64_t epoch) {
  Batch batch = make_batch({Document{{0}, {data::kIgnored}, 0}}, epoch);
  batch.is_stand_in = true;
  return batch;
}

}  // namespace

ItemRange rank_share(int64_t num_items, int64_t rank, int64_t num_ranks) {
  const int64_t base = num_items / num_ranks;
  const int64_t extra = num_items % num_ranks;
  const int64_t begin = rank * base + std::min(rank, extra);
  return {begin, begin + base + (rank < extra ? 1 : 0)};
}

PackedTextSource::PackedTextSource(std::shared_ptr<const data::ExampleStore> store, data::EpochPlanOptions plan,
                                   StepShape shape, at::Device device)
    : store_(std::move(store)),
      plan_(std::move(plan)),
      shape_(shape),
      items_per_update_(shape.items_per_micro_batch * shape.micro_batches * shape.num_ranks),
      device_(device) {
  DSFT_CHECK(shape_.items_per_micro_batch > 0 && shape_.micro_batches > 0 && shape_.num_ranks > 0, "an empty step");
  DSFT_CHECK(shape_.rank >= 0 && shape_.rank < shape_.num_ranks, "rank ", shape_.rank, " of ", shape_.num_ranks);
  items_of_first_epoch_ = items_of_epoch_ = static_cast<int64_t>(plan_of(0).items.size());
}

PackedTextSource::~PackedTextSource() {
  drop_prefetched();
}

const PackedTextSource::Epoch& PackedTextSource::plan_of(int64_t epoch) {
  if (epoch_.number != epoch) epoch_ = {epoch, data::plan_epoch(*store_, plan_, epoch)};
  return epoch_;
}

std::optional<std::vector<Batch>> PackedTextSource::next_step() {
  std::optional<Step> step = prefetched_.valid() ? prefetched_.get() : read_step(position_);
  if (!step) return std::nullopt;
  position_ = step->next;
  items_of_epoch_ = step->items_of_epoch;
  prefetch();
  return std::move(step->batches);
}

void PackedTextSource::restore(const SourcePosition& position, int64_t /*num_updates*/) {
  drop_prefetched();
  if (position.epoch < 0 || position.item < 0)
    fail(ErrorKind::kCheckpoint, "The saved position (epoch ", position.epoch, ", item ", position.item, ") is none.");
  const int64_t num_items = static_cast<int64_t>(plan_of(position.epoch).items.size());
  if (position.item > num_items)
    fail(ErrorKind::kCheckpoint, "The saved position is item ", position.item, " of epoch ", position.epoch,
         ", but the epoch has ", num_items,
         " items: the data, data.max_length, data.packing or the seed are not those of the run that saved it.");
  position_ = position;
  items_of_epoch_ = num_items;
}

Batch PackedTextSource::largest_micro_batch() {
  drop_prefetched();  // its thread uses the plan too
  const Epoch& epoch = plan_of(position_.epoch);
  std::vector<std::pair<int64_t, size_t>> sizes;  // tokens and place of each item
  for (size_t i = 0; i < epoch.items.size(); ++i) {
    int64_t tokens = 0;
    for (const int64_t row : epoch.items[i].rows) tokens += store_->length(row);
    sizes.emplace_back(tokens, i);
  }
  const auto count = std::min(sizes.size(), static_cast<size_t>(shape_.items_per_micro_batch));
  std::partial_sort(sizes.begin(), sizes.begin() + static_cast<std::ptrdiff_t>(count), sizes.end(), std::greater<>());
  std::vector<data::Item> items;
  for (size_t i = 0; i < count; ++i) items.push_back(epoch.items[sizes[i].second]);
  return read_batch(epoch.number, items);
}

std::optional<int64_t> PackedTextSource::halve_micro_batches() {
  if (shape_.items_per_micro_batch == 1) return std::nullopt;
  drop_prefetched();
  return shape_.items_per_micro_batch = ceil_div(shape_.items_per_micro_batch, 2);
}

int64_t PackedTextSource::num_updates(int64_t num_items) const {
  return ceil_div(num_items, items_per_update_);
}

int64_t PackedTextSource::steps_per_epoch() const {
  return num_updates(items_of_first_epoch_);
}

double PackedTextSource::epoch_progress() const {
  return static_cast<double>(position_.epoch) +
         static_cast<double>(position_.item) / static_cast<double>(items_of_epoch_);
}

std::optional<PackedTextSource::Step> PackedTextSource::read_step(SourcePosition from) {
  if (from.epoch >= shape_.num_epochs) return std::nullopt;
  if (from.item >= static_cast<int64_t>(plan_of(from.epoch).items.size())) from = {from.epoch + 1, 0};
  if (from.epoch >= shape_.num_epochs) return std::nullopt;
  const Epoch& epoch = plan_of(from.epoch);
  const int64_t num_items = std::min(items_per_update_, static_cast<int64_t>(epoch.items.size()) - from.item);
  return Step{read_batches(epoch, from.item, num_items),
              {from.epoch, from.item + num_items},
              static_cast<int64_t>(epoch.items.size())};
}

Batch PackedTextSource::read_batch(int64_t epoch, std::span<const data::Item> items) const {
  std::vector<Document> documents;
  for (const data::Item& item : items) {
    for (size_t d = 0; d < item.rows.size(); ++d) {
      data::Example example = store_->read(item.rows[d]);
      documents.push_back({std::move(example.ids), std::move(example.labels), item.samples[d]});
    }
  }
  const Batch batch = documents.empty() ? weightless_batch(epoch) : make_batch(documents, epoch);
  return batch.pinned_for(device_);
}

std::vector<Batch> PackedTextSource::read_batches(const Epoch& epoch, int64_t first_item, int64_t num_items) const {
  const ItemRange share = rank_share(num_items, shape_.rank, shape_.num_ranks);
  // as many micro-batches as the rank with the most items needs
  const int64_t num_batches = ceil_div(ceil_div(num_items, shape_.num_ranks), shape_.items_per_micro_batch);
  std::vector<Batch> batches;
  for (int64_t b = 0; b < num_batches; ++b) {
    const int64_t begin = std::min(share.end, share.begin + b * shape_.items_per_micro_batch);
    const int64_t end = std::min(share.end, begin + shape_.items_per_micro_batch);
    batches.push_back(
        read_batch(epoch.number, {epoch.items.data() + first_item + begin, epoch.items.data() + first_item + end}));
  }
  return batches;
}

void PackedTextSource::prefetch() {
  prefetched_ = std::async(std::launch::async, [this, from = position_] { return read_step(from); });
}

void PackedTextSource::drop_prefetched() {
  if (prefetched_.valid()) prefetched_.wait();
  prefetched_ = {};
}

}  // namespace dsft
