#include "watchdog/beat.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/parse_number.h"

namespace dsft::watchdog {
namespace {

constexpr std::string_view kName = "beat";

// words of a line are separated by tabs
std::string clean(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < ' '; }, ' ');
  return text;
}

}  // namespace

std::string to_line(const Beat& beat) {
  return concat(kName, "\t", beat.rank, "\t", static_cast<int>(beat.kind), "\t", beat.phase_seconds, "\t",
                beat.median_step_seconds, "\t", clean(beat.phase), "\t", clean(beat.call), "\t", clean(beat.last_call));
}

std::optional<Beat> parse_beat(std::string_view line) {
  std::vector<std::string_view> words;
  for (size_t end = 0; end != std::string_view::npos; line.remove_prefix(std::min(line.size(), end + 1))) {
    end = line.find('\t');
    words.push_back(line.substr(0, end));
  }
  if (words.size() != 8 || words[0] != kName) return std::nullopt;
  const auto rank = parse_number<int>(words[1]), kind = parse_number<int>(words[2]);
  const auto phase_seconds = parse_number<double>(words[3]), median_seconds = parse_number<double>(words[4]);
  const bool is_valid = rank && kind && phase_seconds && median_seconds && *rank >= 0 && *kind >= 0 &&
                        *kind <= static_cast<int>(PhaseKind::kStep) && std::isfinite(*phase_seconds) &&
                        std::isfinite(*median_seconds);
  if (!is_valid) return std::nullopt;
  Beat beat;
  beat.rank = *rank;
  beat.kind = static_cast<PhaseKind>(*kind);
  beat.phase_seconds = *phase_seconds;
  beat.median_step_seconds = *median_seconds;
  beat.phase = words[5];
  beat.call = words[6];
  beat.last_call = words[7];
  return beat;
}

}  // namespace dsft::watchdog
