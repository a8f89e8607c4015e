#include "zero/part_name.h"

#include <charconv>

#include "base/error.h"

namespace dsft::zero {

std::string to_text(const PartName& name) {
  return concat(name.tensor, "@", name.first);
}

std::optional<PartName> parse_part_name(const std::string& text) {
  const size_t at = text.rfind('@');
  if (at == std::string::npos) return std::nullopt;
  int64_t first = -1;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data() + at + 1, end, first);
  if (error != std::errc() || rest != end || first < 0) return std::nullopt;
  return PartName{text.substr(0, at), first};
}

}  // namespace dsft::zero
