#include "report/progress_line.h"

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "catch_amalgamated.hpp"

using namespace dsft::report;

namespace {

Progress make_progress(int64_t step) {
  return {step, 100, "", {}, 1.23456, 320.4, 1.25};
}

}  // namespace

TEST_CASE("durations read as a person writes them", "[report]") {
  CHECK(format_duration(-1) == "0 s");
  CHECK(format_duration(8.4) == "8 s");
  CHECK(format_duration(185) == "3 min 05 s");
  CHECK(format_duration(59.7) == "1 min 00 s");
  CHECK(format_duration(7860) == "2 h 11 min");
  CHECK(format_duration(3 * 86400 + 4 * 3600) == "3 d 4 h");
}

TEST_CASE("a progress line drops what does not fit or is not known", "[report]") {
  CHECK(format_progress(make_progress(12), 185.0, 100) ==
        "step 12/100  loss 1.2346  320 tokens/s  ETA 3 min 05 s  1.2 GiB");
  CHECK(format_progress(make_progress(12), 185.0, 40) == "step 12/100  loss 1.2346  320 tokens/s");
  CHECK(format_progress(make_progress(12), 185.0, 1) == "step 12/100");
  CHECK(format_progress({3, 4}, {}, 100) == "step 3/4");
  CHECK(format_progress({3, 4, "", {}, -1e30, {}, {}}, {}, 100) == "step 3/4  loss -1.0000e+30");
  CHECK(format_progress({12, 100, "", {{"reward", 0.5}}, -0.00001, 29977.0, 12.8}, 185.0, 79) ==
        "step 12/100  reward 0.5000  loss 0.0000  29977 tokens/s  ETA 3 min 05 s");
}

TEST_CASE("away from a terminal, plain lines come in intervals and the last always", "[report]") {
  std::ostringstream out;
  double now = 0;
  ProgressLine line({&out, false, 80}, [&] { return now; });
  for (int64_t step = 1; step <= 100; ++step, now += 0.5) line.show(make_progress(step));
  line.finish();
  const std::string text = out.str();
  CHECK(text.find('\r') == std::string::npos);
  CHECK(std::count(text.begin(), text.end(), '\n') == 6);  // steps 1, 21, 41, 61, 81 and 100
  CHECK(text.starts_with("step 1/100  loss 1.2346  320 tokens/s  1.2 GiB\n"));
  CHECK(text.find("step 21/100  loss 1.2346  320 tokens/s  ETA 40 s  1.2 GiB\n") != std::string::npos);
  CHECK(text.find("step 100/100  loss 1.2346  320 tokens/s  ETA 0 s") != std::string::npos);
}

TEST_CASE("on a terminal one line is redrawn over the longer one before it and never wraps", "[report]") {
  std::ostringstream out;
  double now = 0;
  {
    ProgressLine line({&out, true, 41}, [&] { return now; });
    line.show(make_progress(1));
    now = 0.05;
    line.show(make_progress(2));  // too soon
    now = 1;
    line.show({3, 100});
    line.clear();
    line.clear();
  }
  CHECK(out.str() ==
        "\rstep 1/100  loss 1.2346  320 tokens/s"
        "\rstep 3/100  ETA 49 s" +
            std::string(17, ' ') + "\r" + std::string(20, ' ') + "\r");
}

TEST_CASE("what is done between two steps stands behind the step, and leaves with it", "[report]") {
  std::ostringstream out;
  double now = 0;
  {
    ProgressLine line({&out, true, 41}, [&] { return now; });
    line.show_activity(0, 9, "sampling 1 of 512");
    now = 0.05;
    line.show_activity(0, 9, "sampling 2 of 512");  // too soon
    now = 1;
    line.show({.step = 1, .num_steps = 9, .loss = 0.5});
    now = 2;
    line.show_activity(1, 9, "sampling 9 of 512");
  }
  const std::string step = "\rstep 1/9  loss 0.5000";
  CHECK(out.str() == "\rstep 0/9  sampling 1 of 512" + step + std::string(6, ' ') +
                         "\rstep 1/9  sampling 9 of 512  loss 0.5000" + step + std::string(19, ' ') + "\n");
}

TEST_CASE("in a log what is done between two steps keeps no step from its line", "[report]") {
  std::ostringstream log;
  double now = 0;
  ProgressLine line({&log, false, 80}, [&] { return now; });
  for (int64_t step = 1; step <= 3; ++step) {
    for (int i = 0; i < 25; ++i, now += 1) line.show_activity(step - 1, 3, "sampling " + std::to_string(i) + " of 512");
    line.show({.step = step, .num_steps = 3, .loss = 0.5});
  }
  line.finish();
  std::istringstream lines(log.str());
  std::vector<std::string> steps;
  int64_t num_activities = 0;
  for (std::string text; std::getline(lines, text);)
    if (text.find("sampling") == std::string::npos)
      steps.push_back(text.substr(0, 21));
    else
      ++num_activities;
  CHECK(steps == std::vector<std::string>{"step 1/3  loss 0.5000", "step 2/3  loss 0.5000", "step 3/3  loss 0.5000"});
  CHECK(num_activities == 6);
}

TEST_CASE("a finished line stays and the next output starts below it", "[report]") {
  std::ostringstream out;
  {
    ProgressLine line({&out, true, 80}, [] { return 0.0; });
    line.show({4, 4});
  }
  CHECK(out.str() == "\rstep 4/4\n");
}
