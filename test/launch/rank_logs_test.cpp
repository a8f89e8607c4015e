#include "launch/rank_logs.h"

#include "catch_amalgamated.hpp"
#include "support/temp_dir.h"

using namespace dsft;
using launch::split_tagged;
using launch::TaggedPart;
using process::Stream;

TEST_CASE("Tagged lines come apart by rank", "[launch]") {
  // as Open MPI 4.1 writes them where ranks write lines in pieces
  CHECK(split_tagged("[1,0]<stdout>:  a[1,12]<stderr>:b[1,0]<stdout>:c", false) ==
        std::vector<TaggedPart>{
            {0, Stream::kStdout, "  a", false}, {12, Stream::kStderr, "b", false}, {0, Stream::kStdout, "c", true}});
  // as Open MPI 5 does
  CHECK(split_tagged("[prterun-node1-77@1,3]<stderr>:  a", true) ==
        std::vector<TaggedPart>{{3, Stream::kStderr, " a", true}});
  CHECK(split_tagged("mpirun noticed", false) ==
        std::vector<TaggedPart>{{-1, Stream::kStdout, "mpirun noticed", true}});
  CHECK(split_tagged("[1,0]<stdout>:see a[1]<stdout>: and x]<std", false) ==
        std::vector<TaggedPart>{{0, Stream::kStdout, "see a[1]<stdout>: and x]<std", true}});
  CHECK(split_tagged("[1,0]<stdout>:", false) == std::vector<TaggedPart>{{0, Stream::kStdout, "", true}});
}

TEST_CASE("Logs of a restart go on where the first ones end", "[launch]") {
  test::TempDir folder;
  std::string seen;
  for (const bool appends : {false, true}) {
    launch::RankLogs logs(folder.path(), 11, appends, [&](Stream, std::string_view line) { seen += line; });
    logs.add({0, Stream::kStdout, "one ", false});
    logs.add({10, Stream::kStderr, "other", true});
    logs.add({0, Stream::kStdout, "line", false});
    logs.finish();
    CHECK(logs.tail(10).text() == "other\n");
  }
  CHECK(seen == "one lineone line");
  CHECK(test::read_file(folder / "rank.00/stdout") == "one line\none line\n");
  CHECK(test::read_file(folder / "rank.10/stderr") == "other\nother\n");
}
