#include "watchdog/beat.h"

#include "catch_amalgamated.hpp"
#include "support/require_error.h"
#include "watchdog/address.h"
#include "watchdog/heart.h"

using namespace dsft;
using watchdog::Address;
using watchdog::Beat;

TEST_CASE("A beat goes over as a line", "[watchdog]") {
  const Beat beat{3, watchdog::PhaseKind::kStep, 1.5, 0.25, "step 12: forward", "all-reduce #123 of a.b", "barrier #7"};
  CHECK(watchdog::parse_beat(watchdog::to_line(beat)) == beat);
  CHECK(watchdog::parse_beat(watchdog::to_line({})) == Beat{});
  Beat odd = beat;
  odd.phase = "two\nlines\tand tabs";
  CHECK(watchdog::parse_beat(watchdog::to_line(odd))->phase == "two lines and tabs");
}

TEST_CASE("What is no beat is left alone", "[watchdog]") {
  for (const char* line :
       {"", "bye", "beat", "beat\t0\t0\t0\t0\ta\tb", "beat\t-1\t0\t0\t0\ta\tb\tc", "beat\t0\t9\t0\t0\ta\tb\tc",
        "beat\tx\t0\t0\t0\ta\tb\tc", "beat\t0\t0\tnan\t0\ta\tb\tc", "beat\t0\t0\t0\t0\ta\tb\tc\td"}) {
    INFO(line);
    CHECK_FALSE(watchdog::parse_beat(line));
  }
}

TEST_CASE("An address goes through an environment variable", "[watchdog]") {
  for (const Address& address :
       {Address{"/a;b/watchdog", {}, 0, "key"}, Address{"", {"10.0.0.1", "127.0.0.1"}, 4711, "key"}})
    CHECK(watchdog::parse_address(watchdog::to_text(address)) == address);
  for (const char* text : {"tcp;key;4711", "tcp;key;x;10.0.0.1", "udp;key;1;10.0.0.1", "unix;key;"})
    test::require_error(ErrorKind::kUsage, {"DSFT_WATCHDOG", text}, [&] { watchdog::parse_address(text); });
}

TEST_CASE("A rank whose launcher does not answer says so", "[watchdog]") {
  test::require_error(ErrorKind::kCommunication, {"/nowhere/watchdog", "unset DSFT_WATCHDOG"},
                      [] { watchdog::Heart("unix;key;/nowhere/watchdog", 0); });
  test::require_error(ErrorKind::kCommunication, {"port 1", "127.0.0.1"},
                      [] { watchdog::Heart("tcp;key;1;127.0.0.1", 0); });
}

TEST_CASE("Without a launcher nothing beats", "[watchdog]") {
  CHECK_FALSE(watchdog::Heart().is_watched());
  CHECK_FALSE(watchdog::Heart(nullptr, 0).is_watched());
  CHECK_FALSE(watchdog::Heart("", 0).is_watched());
}
