#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <utility>

namespace dsft::report {

/// What a progress line shows of one update; what is not known is left out.
struct Progress {
  int64_t step = 0;
  int64_t num_steps = 0;
  std::string activity = {};                                    ///< done before the next step; "": nothing
  std::optional<std::pair<std::string, double>> headline = {};  ///< what a person follows, where that is not the loss
  std::optional<double> loss = {};
  std::optional<double> tokens_per_second = {};
  std::optional<double> memory_gib = {};
};

/// Seconds as a person reads them: "8 s", "3 min 05 s", "2 h 10 min", "3 d 4 h".
std::string format_duration(double seconds);

/// One line of at most `width` characters: "step 12/80  loss 1.2345  320 tokens/s  ETA 3 min 05 s  1.2 GiB", a headline
/// before the loss. Fields that do not fit are left out from the right. `eta_s` is absent until it can be told.
std::string format_progress(const Progress& progress, std::optional<double> eta_s, int width);

/// Where a progress line is shown.
struct Terminal {
  std::ostream* out = nullptr;
  bool is_terminal = false;  ///< redraw one line in place; otherwise write plain lines, for logs
  int width = 80;            ///< characters
};

/// Standard error as it is now: whether it is a terminal, and how wide.
Terminal standard_error_terminal();

/// Shows how a run goes on: on a terminal one line that is redrawn at most ten times a second; elsewhere a plain line
/// at most every `kPlainInterval_s` seconds, and the first and last step always. The time left is told from the mean
/// pace since the second update, as the first one warms up.
class ProgressLine {
 public:
  static constexpr double kRedrawInterval_s = 0.1;
  static constexpr double kPlainInterval_s = 10.0;

  /// `clock_s` gives monotonic seconds.
  ProgressLine(Terminal terminal, std::function<double()> clock_s);
  ~ProgressLine() { finish(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void show(const Progress& progress);
  /// What is done behind the last step shown, or behind `step` where there is none: "step 12/80  sampling 120 of 512",
  /// then what is known of the step. In a log where no line has come for an interval; steps come as they do without.
  void show_activity(int64_t step, int64_t num_steps, const std::string& activity);

  /// Takes the redrawn line off the terminal, so that another message can be printed; the next show draws it again.
  void clear();

  /// Leaves the last step's line standing, without an activity, and moves below it. Nothing where no line stands.
  void finish();

 private:
  std::optional<double> time_left_s(const Progress& progress, double now_s) const;
  bool has_passed(const std::optional<double>& since_s, double now_s) const;
  void draw(const Progress& progress);

  Terminal terminal_;
  std::function<double()> clock_s_;
  std::optional<double> step_drawn_at_s_, drawn_at_s_;  // of a step; of whatever came last
  std::optional<Progress> last_;                        // step, whether it was drawn or not
  std::optional<double> last_eta_s_;
  bool shows_activity_ = false;
  std::optional<double> pace_start_s_;
  int64_t pace_start_step_ = 0;
  size_t drawn_width_ = 0;
};

}  // namespace dsft::report
