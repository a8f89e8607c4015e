#include "report/newest_records.h"

#include <algorithm>
#include <fstream>
#include <string>

namespace dsft::report {

std::vector<nlohmann::ordered_json> newest_records(const std::filesystem::path& path, size_t most,
                                                   uint64_t most_bytes) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto size = static_cast<int64_t>(file.tellg());
  if (!file || size <= 0) return {};
  const int64_t begin = std::max<int64_t>(0, size - static_cast<int64_t>(most_bytes));
  file.seekg(begin);
  std::vector<nlohmann::ordered_json> records;
  bool is_whole = begin == 0;  // the first line may begin before
  for (std::string line; std::getline(file, line); is_whole = true) {
    if (!is_whole) continue;
    auto record = nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (record.is_object()) records.push_back(std::move(record));
  }
  if (records.size() > most) records.erase(records.begin(), records.end() - static_cast<std::ptrdiff_t>(most));
  return records;
}

}  // namespace dsft::report
