#include "launch/visible_gpus.h"

#include <algorithm>
#include <numeric>

#include "base/parse_number.h"

namespace dsft::launch {

int count_visible_gpus(std::optional<std::string_view> cuda_visible_devices, int num_devices) {
  if (!cuda_visible_devices || num_devices == 0) return num_devices;
  int num_visible = 0;
  std::string_view rest = *cuda_visible_devices;
  while (!rest.empty()) {
    const std::string_view entry = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), entry.size() + 1));
    const int index = parse_number<int>(entry).value_or(-1);
    const bool is_index = index >= 0 && index < num_devices;
    if (!is_index && !entry.starts_with("GPU-") && !entry.starts_with("MIG-")) break;
    ++num_visible;
  }
  return num_visible;
}

std::optional<std::vector<int>> visible_gpu_numbers(std::optional<std::string_view> cuda_visible_devices,
                                                    int num_devices) {
  std::vector<int> numbers(static_cast<size_t>(count_visible_gpus(cuda_visible_devices, num_devices)));
  if (!cuda_visible_devices || num_devices == 0) {
    std::iota(numbers.begin(), numbers.end(), 0);
    return numbers;
  }
  std::string_view rest = *cuda_visible_devices;
  for (int& number : numbers) {
    const std::string_view entry = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), entry.size() + 1));
    const auto index = parse_number<int>(entry);
    if (!index) return std::nullopt;
    number = *index;
  }
  return numbers;
}

}  // namespace dsft::launch
