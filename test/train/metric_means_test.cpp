#include "train/metric_means.h"

#include <cmath>
#include <limits>

#include "catch_amalgamated.hpp"

using namespace dsft;

TEST_CASE("A log has the means of its updates' loss and metrics, and the last one's place", "[train]") {
  train::LogWindow window;
  window.add({.step = 3,
              .loss = 1,
              .grad_norm = 5,
              .learning_rate = 0.1,
              .step_tokens = 10,
              .step_seconds = 1,
              .metrics = {{"reward", 0.5}, {"failed", 2}}});
  window.add({.step = 4,
              .loss = std::numeric_limits<double>::infinity(),
              .grad_norm = 6,
              .learning_rate = 0.2,
              .is_applied = false,
              .step_tokens = 30,
              .step_seconds = 4,
              .metrics = {{"reward", std::nan("")}, {"kl", std::nan("")}}});
  window.add({.step = 5,
              .loss = 2,
              .grad_norm = 7,
              .learning_rate = 0.3,
              .step_tokens = 20,
              .step_seconds = 5,
              .metrics = {{"reward", 0.25}}});
  const train::StepReport mean = window.take();
  CHECK(mean.step == 5);
  CHECK(mean.loss == 1.5);  // a loss that is no number is left out, as by the Trainer
  CHECK(mean.grad_norm == 7);
  CHECK(mean.learning_rate == 0.3);
  CHECK(mean.step_tokens == 60);
  CHECK(mean.step_seconds == 10);
  CHECK(mean.num_updates == 3);
  CHECK(mean.tokens_per_second() == 6);
  CHECK(mean.step_time() == Catch::Approx(10.0 / 3));
  CHECK_FALSE(mean.is_applied);
  CHECK(mean.metrics.at("reward") == 0.375);
  CHECK(mean.metrics.at("failed") == 2);
  CHECK(std::isnan(mean.metrics.at("kl")));
  window.add({.step = 6, .loss = 4, .metrics = {{"reward", 1}}});
  CHECK(window.take().loss == 4);  // nothing of the log before
}
