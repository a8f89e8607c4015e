#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

namespace dsft::report {

/// The last objects of a file with one JSON object a line, in its order, of the last `most_bytes` of it and `most` at
/// most. Lines that are no whole object are left out, and a file that cannot be read has none: it may be growing.
std::vector<nlohmann::ordered_json> newest_records(const std::filesystem::path& path, size_t most, uint64_t most_bytes);

}  // namespace dsft::report
