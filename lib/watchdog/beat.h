#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace dsft::watchdog {

/// How long a phase may last: the launcher has a limit for each kind.
enum class PhaseKind {
  kStart,  ///< until the ranks have found each other
  kLong,   ///< loading, evaluating, saving: minutes at most
  kStep,   ///< an update
};

/// What a rank tells the launcher twice a second.
struct Beat {
  int rank = 0;
  PhaseKind kind = PhaseKind::kStart;
  double phase_seconds = 0;        ///< since the phase (or the update) began
  double median_step_seconds = 0;  ///< of the last updates; 0: none yet
  std::string phase;               ///< "loading weights", "step 12: forward"
  std::string call;                ///< the collective that is waited for: "all-reduce #123 of NAME"; empty: none
  std::string last_call;           ///< the collective that was started last; empty: none yet

  bool operator==(const Beat&) const = default;
};

/// One line, without its newline.
std::string to_line(const Beat& beat);

/// Nothing where the line is none of to_line().
std::optional<Beat> parse_beat(std::string_view line);

/// What a rank sends when it ends by itself; what ends without it was killed.
inline constexpr std::string_view kFarewell = "bye";

/// What the launcher sends: save and stop.
inline constexpr std::string_view kStop = "stop";

/// The same, where the job is over: end at once.
inline constexpr std::string_view kEnd = "end";

/// The environment variable with the address of the launcher.
inline constexpr const char* kAddressVariable = "DSFT_WATCHDOG";

}  // namespace dsft::watchdog
