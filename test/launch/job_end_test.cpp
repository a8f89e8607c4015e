#include "launch/job_end.h"

#include "catch_amalgamated.hpp"
#include "support/temp_dir.h"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;

TEST_CASE("A host that ssh does not reach is named, with what to do", "[launch]") {
  // OpenSSH's own words
  const auto fault_of = [](const std::string& line) {
    return launch::find_ssh_fault("some line\n" + line + "\nORTE was unable to reliably start one or more daemons.\n");
  };
  CHECK_THAT(fault_of("ssh: Could not resolve hostname node7: Name or service not known\r"),
             StartsWith("host node7 could not be reached by ssh (ssh: Could not resolve hostname node7: Name or "
                        "service not known); ") &&
                 ContainsSubstring("scripts/cluster/hostfile_launch.sh"));
  CHECK_THAT(fault_of("ssh: connect to host 10.0.0.7 port 22: Connection refused"), StartsWith("host 10.0.0.7 could"));
  CHECK_THAT(fault_of("me@node7: Permission denied (publickey,password)."), StartsWith("host me@node7 could"));
  CHECK_THAT(fault_of("Host key verification failed."), StartsWith("a host could not be reached by ssh"));
  CHECK(fault_of("/opt/dsft/bin/dsft-trainer: Permission denied") == "");
  CHECK(fault_of("they could connect to host node7") == "");
}

TEST_CASE("A job whose hosts cannot be reached ends with 6 and the host's name", "[launch]") {
  const test::TempDir folder;
  const launch::HeartMonitor monitor(2, folder.path(), /*has_remote_hosts=*/false, {});
  const launch::RankLogs logs({}, 2, /*appends=*/false, [](process::Stream, std::string_view) {});
  const std::string words = "ssh: connect to host node7 port 22: No route to host\nmore\n";
  const launch::LaunchResult result = launch::explain_job({{1, 0}, words, 2, 0}, logs, monitor);
  CHECK(result.exit_code == 6);
  CHECK_THAT(result.reason, StartsWith("host node7 could not be reached"));
  CHECK(result.tail == words);
  const launch::LaunchResult other = launch::explain_job({{1, 0}, "no such option\n", 2, 0}, logs, monitor);
  CHECK(other.exit_code == 6);
  CHECK(other.reason == "mpirun ended with code 1");
}

TEST_CASE("A program or a library that is missing is a fault of use, with one process and with several", "[launch]") {
  CHECK(launch::explain_process("", {127, 0}, 0).exit_code == 2);
  CHECK(launch::explain_process("", {127, 0}, 0).reason ==
        "the trainer could not be started: a program or a shared library is missing there (127)");
  const test::TempDir folder;
  const launch::HeartMonitor monitor(2, folder.path(), /*has_remote_hosts=*/false, {});
  const launch::RankLogs logs({}, 2, /*appends=*/false, [](process::Stream, std::string_view) {});
  const launch::LaunchResult result = launch::explain_job(
      {{127, 0}, "Primary job  terminated normally, but 1 process returned\n", 2, 0}, logs, monitor);
  CHECK(result.exit_code == 2);
  CHECK_THAT(result.reason, StartsWith("a rank could not be started"));
}
