#include "generate/decode_rows.h"

#include <algorithm>

#include "base/error.h"
#include "device/device.h"

namespace dsft::generate {
namespace {

template <typename Value>
void write_rows(at::Tensor& tensor, const std::vector<RowState>& states, Value value) {
  std::vector<int64_t> values;
  for (const RowState& state : states) values.push_back(static_cast<int64_t>(value(state)));
  tensor.narrow(0, 0, static_cast<int64_t>(states.size()))
      .copy_(device::copy_from_host(torch::tensor(values, at::kLong), tensor.device()));
}

// Rows of unequal length, filled up by zeros.
void write_lists(at::Tensor& tensor, const std::vector<RowState>& states, std::vector<int32_t> RowState::*list) {
  const at::Tensor host = torch::zeros({static_cast<int64_t>(states.size()), tensor.size(1)}, at::kInt);
  for (size_t r = 0; r < states.size(); ++r) {
    const std::vector<int32_t>& values = states[r].*list;
    DSFT_CHECK(static_cast<int64_t>(values.size()) <= tensor.size(1), values.size(), " entries for a row of ",
               tensor.size(1));
    std::copy(values.begin(), values.end(), host.data_ptr<int32_t>() + static_cast<int64_t>(r) * tensor.size(1));
  }
  tensor.narrow(0, 0, host.size(0)).copy_(device::copy_from_host(host, tensor.device()));
}

}  // namespace

DecodeRows::DecodeRows(int64_t num_rows, int64_t pages_per_row, int64_t num_seen_words, bool has_log_probs,
                       at::Device device) {
  const auto options = at::TensorOptions(at::kLong).device(device);
  for (at::Tensor* tensor : {&ids, &lengths, &draws, &streams}) *tensor = torch::zeros({num_rows}, options);
  limits = torch::ones({num_rows}, options);
  pages = torch::zeros({num_rows, pages_per_row}, options.dtype(at::kInt));
  if (num_seen_words > 0) seen = torch::zeros({num_rows, num_seen_words}, options.dtype(at::kInt));
  if (has_log_probs) log_probs = torch::zeros({num_rows}, options.dtype(at::kFloat));
}

void DecodeRows::write(const std::vector<RowState>& states) {
  write_rows(ids, states, [](const RowState& state) { return state.last_token; });
  write_rows(lengths, states, [](const RowState& state) { return state.length; });
  write_rows(draws, states, [](const RowState& state) { return state.num_draws; });
  write_rows(streams, states, [](const RowState& state) { return state.stream; });
  write_pages(states);
  if (seen.defined()) write_lists(seen, states, &RowState::seen);
}

void DecodeRows::write_pages(const std::vector<RowState>& states) {
  write_rows(limits, states, [](const RowState& state) { return state.limit; });
  write_lists(pages, states, &RowState::pages);
}

DecodeRows DecodeRows::first(int64_t num_rows) const {
  DecodeRows views;
  views.ids = ids.narrow(0, 0, num_rows);
  views.lengths = lengths.narrow(0, 0, num_rows);
  views.limits = limits.narrow(0, 0, num_rows);
  views.draws = draws.narrow(0, 0, num_rows);
  views.streams = streams.narrow(0, 0, num_rows);
  views.pages = pages.narrow(0, 0, num_rows);
  if (seen.defined()) views.seen = seen.narrow(0, 0, num_rows);
  if (log_probs.defined()) views.log_probs = log_probs.narrow(0, 0, num_rows);
  return views;
}

void DecodeRows::advance() {
  lengths.add_(1).clamp_max_(limits);
}

}  // namespace dsft::generate
