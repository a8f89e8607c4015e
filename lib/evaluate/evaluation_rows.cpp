#include "evaluate/evaluation_rows.h"

#include <functional>
#include <limits>

#include "data/dataset.h"
#include "data/row_file.h"

namespace dsft::evaluate {
namespace {

void append_rows(const std::string& path, const std::function<bool(int64_t number)>& is_wanted, size_t limit,
                 std::vector<EvaluationRow>& rows) {
  data::RowFile file = data::RowFile::open(path);
  data::RawRow raw;
  while (rows.size() < limit && file.next(raw)) {
    if (is_wanted(raw.number)) rows.push_back({file.parse(raw), data::name_row(path, raw.number)});
  }
}

}  // namespace

std::vector<EvaluationRow> read_evaluation_rows(const data::DataConfig& config, uint64_t seed,
                                                std::optional<int64_t> limit) {
  const size_t most = limit ? static_cast<size_t>(*limit) : std::numeric_limits<size_t>::max();
  std::vector<EvaluationRow> rows;
  for (const data::DataFile& file : config.eval)
    append_rows(
        file.path, [](int64_t) { return true; }, most, rows);
  if (config.eval_fraction <= 0) return rows;
  for (size_t i = 0; i < config.train.size(); ++i)
    append_rows(
        config.train[i].path, [&](int64_t number) { return data::is_held_out(seed, i, number, config.eval_fraction); },
        most, rows);
  return rows;
}

}  // namespace dsft::evaluate
