#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/data_config.h"

namespace dsft::evaluate {

/// A row of the evaluation data as it stands in its file.
struct EvaluationRow {
  nlohmann::ordered_json row;
  std::string where;  ///< "held_out.jsonl:12"
};

/// The first `limit` evaluation rows: those of data.eval, then those of data.train that eval_fraction holds out with
/// this seed. Throws kData.
std::vector<EvaluationRow> read_evaluation_rows(const data::DataConfig& config, uint64_t seed,
                                                std::optional<int64_t> limit);

}  // namespace dsft::evaluate
