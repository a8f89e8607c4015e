#include "watchdog/beat.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "base/error.h"

namespace dsft::watchdog {
namespace {

constexpr std::string_view kName = "beat";

// words of a line are separated by tabs
std::string clean(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < ' '; }, ' ');
  return text;
}

template <typename Number>
bool parse(std::string_view text, Number& number) {
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && stop == text.data() + text.size();
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
  Beat beat;
  int kind = 0;
  const bool is_valid = parse(words[1], beat.rank) && parse(words[2], kind) && parse(words[3], beat.phase_seconds) &&
                        parse(words[4], beat.median_step_seconds) && beat.rank >= 0 && kind >= 0 &&
                        kind <= static_cast<int>(PhaseKind::kStep) && std::isfinite(beat.phase_seconds) &&
                        std::isfinite(beat.median_step_seconds);
  if (!is_valid) return std::nullopt;
  beat.kind = static_cast<PhaseKind>(kind);
  beat.phase = words[5];
  beat.call = words[6];
  beat.last_call = words[7];
  return beat;
}

}  // namespace dsft::watchdog
