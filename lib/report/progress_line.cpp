#include "report/progress_line.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace dsft::report {
namespace {

// A number too long to be read so by its power of ten.
std::string fixed(double value, int digits) {
  constexpr double kLong = 1e7;
  char text[64];
  std::snprintf(text, sizeof(text), std::abs(value) < kLong ? "%.*f" : "%.*e", digits, value);
  const std::string_view shown = text;
  const bool is_zero = shown.find_first_not_of("-0.") == std::string_view::npos;
  return std::string(is_zero && shown.starts_with('-') ? shown.substr(1) : shown);
}

std::string two_digits(int64_t value) {
  return (value < 10 ? "0" : "") + std::to_string(value);
}

}  // namespace

std::string format_duration(double seconds) {
  const int64_t total = std::llround(std::max(0.0, seconds));
  const int64_t minutes = total / 60;
  const int64_t hours = total / 3600;
  if (total < 60) return concat(total, " s");
  if (hours == 0) return concat(minutes, " min ", two_digits(total % 60), " s");
  if (hours < 48) return concat(hours, " h ", two_digits(minutes % 60), " min");
  return concat(hours / 24, " d ", hours % 24, " h");
}

std::string format_progress(const Progress& progress, std::optional<double> eta_s, int width) {
  std::vector<std::string> fields = {concat("step ", progress.step, "/", progress.num_steps)};
  if (!progress.activity.empty()) fields.push_back(progress.activity);
  if (progress.headline) fields.push_back(progress.headline->first + " " + fixed(progress.headline->second, 4));
  if (progress.loss) fields.push_back("loss " + fixed(*progress.loss, 4));
  if (progress.tokens_per_second) fields.push_back(fixed(*progress.tokens_per_second, 0) + " tokens/s");
  if (eta_s) fields.push_back("ETA " + format_duration(*eta_s));
  if (progress.memory_gib) fields.push_back(fixed(*progress.memory_gib, 1) + " GiB");
  std::string line;
  for (const std::string& field : fields) {
    const std::string longer = line.empty() ? field : line + "  " + field;
    if (!line.empty() && longer.size() > static_cast<size_t>(std::max(0, width))) break;
    line = longer;
  }
  return line;
}

Terminal standard_error_terminal() {
  Terminal terminal{&std::cerr, isatty(STDERR_FILENO) == 1, 80};
  winsize size{};
  if (terminal.is_terminal && ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    terminal.width = size.ws_col;
  }
  return terminal;
}

ProgressLine::ProgressLine(Terminal terminal, std::function<double()> clock_s)
    : terminal_(terminal), clock_s_(std::move(clock_s)) {}

std::optional<double> ProgressLine::time_left_s(const Progress& progress, double now_s) const {
  if (!pace_start_s_ || progress.step <= pace_start_step_) return std::nullopt;
  const double pace = (now_s - *pace_start_s_) / static_cast<double>(progress.step - pace_start_step_);
  return pace * static_cast<double>(progress.num_steps - progress.step);
}

void ProgressLine::show(const Progress& progress) {
  const double now_s = clock_s_();
  if (!pace_start_s_) {
    pace_start_s_ = now_s;
    pace_start_step_ = progress.step;
  }
  last_ = progress;
  last_eta_s_ = time_left_s(progress, now_s);
  const bool is_last = progress.step >= progress.num_steps;
  if (!is_last && !has_passed(step_drawn_at_s_, now_s)) return;
  step_drawn_at_s_ = drawn_at_s_ = now_s;
  shows_activity_ = false;
  draw(progress);
}

void ProgressLine::show_activity(int64_t step, int64_t num_steps, const std::string& activity) {
  const double now_s = clock_s_();
  if (!drawn_at_s_ && !terminal_.is_terminal) drawn_at_s_ = now_s;  // a log has no line of what takes no time
  if (!has_passed(drawn_at_s_, now_s)) return;
  drawn_at_s_ = now_s;
  shows_activity_ = true;
  Progress progress = last_.value_or(Progress{.step = step, .num_steps = num_steps});
  progress.activity = activity;
  draw(progress);
}

bool ProgressLine::has_passed(const std::optional<double>& since_s, double now_s) const {
  return !since_s || now_s - *since_s >= (terminal_.is_terminal ? kRedrawInterval_s : kPlainInterval_s);
}

void ProgressLine::draw(const Progress& progress) {
  // The last column stays free: some terminals wrap when it is written.
  const int width = terminal_.is_terminal ? terminal_.width - 1 : 1000;
  const std::string line = format_progress(progress, last_eta_s_, width);
  if (!terminal_.is_terminal) {
    *terminal_.out << line << std::endl;
    return;
  }
  const size_t leftover = drawn_width_ > line.size() ? drawn_width_ - line.size() : 0;
  *terminal_.out << '\r' << line << std::string(leftover, ' ') << std::flush;
  drawn_width_ = line.size();
}

void ProgressLine::clear() {
  if (drawn_width_ == 0) return;
  *terminal_.out << '\r' << std::string(drawn_width_, ' ') << '\r' << std::flush;
  drawn_width_ = 0;
}

void ProgressLine::finish() {
  if (drawn_width_ == 0) return;
  if (shows_activity_ && !last_) return clear();
  if (shows_activity_) draw(*last_);
  shows_activity_ = false;
  *terminal_.out << std::endl;
  drawn_width_ = 0;
}

}  // namespace dsft::report
