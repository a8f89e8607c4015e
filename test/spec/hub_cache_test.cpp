#include <cstdlib>

#include "catch_amalgamated.hpp"
#include "spec/model_spec.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using dsft::ErrorKind;
using dsft::spec::find_model;
using dsft::test::require_error;
using dsft::test::TempDir;
namespace fs = std::filesystem;

namespace {

/// Sets an environment variable until the end of the scope.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const std::string& value) : name_(name) {
    const char* old = std::getenv(name);
    if (old != nullptr) old_ = old;
    ::setenv(name, value.c_str(), 1);
  }
  ~ScopedVariable() { old_ ? ::setenv(name_, old_->c_str(), 1) : ::unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

}  // namespace

TEST_CASE("models are found in folders first, then in the hub cache", "[spec]") {
  TempDir dir;
  const ScopedVariable cache("HF_HUB_CACHE", (dir / "cache").string());
  const ScopedVariable home("HF_HOME", (dir / "home").string());
  const ScopedVariable xdg("XDG_CACHE_HOME", (dir / "xdg").string());
  const ScopedVariable user("HOME", (dir / "user").string());
  dir.write("cache/models--owner--name/blobs/1", "{}");
  dir.write("cache/models--owner--name/refs/main", "abc123\n");
  fs::create_directories(dir / "cache/models--owner--name/snapshots/abc123");
  fs::create_symlink("../../blobs/1", dir / "cache/models--owner--name/snapshots/abc123/config.json");
  dir.write("home/hub/models--other--name/refs/pr/1", "def");
  dir.write("home/hub/models--other--name/snapshots/def/config.json", "{}");
  dir.write("xdg/huggingface/hub/models--third--name/refs/main", "1");
  dir.write("xdg/huggingface/hub/models--third--name/snapshots/1/config.json", "{}");
  dir.write("user/.cache/huggingface/hub/models--fourth--name/refs/main", "2");
  dir.write("user/.cache/huggingface/hub/models--fourth--name/snapshots/2/config.json", "{}");

  const fs::path snapshot = dir / "cache/models--owner--name/snapshots/abc123";
  REQUIRE(find_model(dir.path().string(), "") == dir.path());
  REQUIRE(find_model("owner/name", "") == snapshot);
  REQUIRE(find_model("owner/name", "main") == snapshot);
  REQUIRE(find_model("owner/name", "abc123") == snapshot);
  REQUIRE(find_model("other/name", "pr/1") == dir / "home/hub/models--other--name/snapshots/def");
  REQUIRE(find_model("third/name", "") == dir / "xdg/huggingface/hub/models--third--name/snapshots/1");
  REQUIRE(find_model("fourth/name", "") == dir / "user/.cache/huggingface/hub/models--fourth--name/snapshots/2");
  require_error(ErrorKind::kCheckpoint, {"at revision dev", "hf download owner/name --revision dev"},
                [&] { find_model("owner/name", "dev"); });
  require_error(ErrorKind::kCheckpoint, {"hf download owner/missing", (dir / "cache").string()},
                [&] { find_model("owner/missing", ""); });
  // a folder of the working directory before the slash: the path is meant
  const fs::path before = fs::current_path();
  fs::current_path(dir.path());
  require_error(ErrorKind::kCheckpoint,
                {"There is no folder cache/Qwen3-0.6B", "hf download OWNER/Qwen3-0.6B --local-dir cache/Qwen3-0.6B"},
                [&] { find_model("cache/Qwen3-0.6B", ""); });
  fs::create_directory("cache/Qwen3-0.6B-x");
  require_error(ErrorKind::kCheckpoint, {"did you mean cache/Qwen3-0.6B-x?"},
                [&] { find_model("cache/Qwen3-0.6B", ""); });
  fs::current_path(before);
  require_error(ErrorKind::kUsage, {"no name of a branch"}, [&] { find_model("owner/name", "../../x"); });
  require_error(ErrorKind::kCheckpoint, {"no id of a model"}, [&] { find_model("models/a/b", ""); });
  require_error(ErrorKind::kCheckpoint, {"There is no folder"}, [&] { find_model(std::string(5000, 'a'), ""); });
  require_error(ErrorKind::kCheckpoint, {"is a file"},
                [&] { find_model((dir / "cache/models--owner--name/blobs/1").string(), ""); });

  dir.write("secret", "x");
  fs::create_symlink(dir / "secret", snapshot / "tokenizer.json");
  require_error(ErrorKind::kCheckpoint, {"outside of"}, [&] { find_model("owner/name", ""); });
  fs::remove(snapshot / "tokenizer.json");
  fs::create_symlink("../../blobs/2", snapshot / "tokenizer.json");
  require_error(ErrorKind::kCheckpoint, {"not finished"}, [&] { find_model("owner/name", ""); });
}
