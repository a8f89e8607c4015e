#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "base/nearest_name.h"
#include "io/file.h"
#include "spec/model_spec.h"

namespace dsft::spec {

namespace fs = std::filesystem;

namespace {

/// The folders that may hold a Hugging Face cache, the strongest first (contract §5).
std::vector<fs::path> cache_folders() {
  std::vector<fs::path> folders;
  const auto add = [&](const char* variable, const char* below) {
    const char* value = std::getenv(variable);
    if (value != nullptr && *value != '\0') folders.push_back(fs::path(value) / below);
  };
  add("HF_HUB_CACHE", "");
  add("HF_HOME", "hub");
  add("XDG_CACHE_HOME", "huggingface/hub");
  add("HOME", ".cache/huggingface/hub");
  return folders;
}

bool is_plain_part(const std::string& part) {
  const auto is_allowed = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  };
  return !part.empty() && part != "." && part != ".." && std::all_of(part.begin(), part.end(), is_allowed);
}

/// "owner/name" or "name": at most one slash, no path tricks.
bool is_hub_id(const std::string& text) {
  const size_t slash = text.find('/');
  if (slash == std::string::npos) return is_plain_part(text);
  return is_plain_part(text.substr(0, slash)) && is_plain_part(text.substr(slash + 1));
}

bool is_revision(const std::string& text) {
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('/', begin), text.size());
    if (!is_plain_part(text.substr(begin, end - begin))) return false;
    begin = end + 1;
  }
  return true;
}

std::string model_folder_name(const std::string& id) {
  std::string name = "models--" + id;
  const size_t slash = name.find('/');
  if (slash != std::string::npos) name.replace(slash, 1, "--");
  return name;
}

/// The snapshot of a revision (a branch or tag under refs/, or a commit), or "" where the cache does not have it.
fs::path find_snapshot(const fs::path& model_folder, const std::string& revision) {
  std::string commit = revision;
  const fs::path reference = model_folder / "refs" / revision;
  std::error_code unreachable;
  if (fs::is_regular_file(reference, unreachable)) {
    commit = io::read_text_file(reference, 4096);
    commit.erase(
        std::find_if(commit.begin(), commit.end(), [](char c) { return std::isspace(static_cast<unsigned char>(c)); }),
        commit.end());
  }
  const fs::path snapshot = model_folder / "snapshots" / commit;
  return is_plain_part(commit) && fs::is_directory(snapshot, unreachable) ? snapshot : fs::path();
}

/// Links of a snapshot may lead to the blobs of the same model and nowhere else.
void check_links(const fs::path& snapshot, const fs::path& model_folder) {
  const fs::path root = fs::canonical(model_folder);
  for (const auto& entry : fs::directory_iterator(snapshot)) {
    std::error_code error;
    const fs::path real = fs::canonical(entry.path(), error);
    if (error) {
      fail(ErrorKind::kCheckpoint, entry.path().string(),
           " is a link to a file that is missing: the download was not finished. Download the model again.");
    }
    if (*real.lexically_relative(root).begin() == "..") {
      fail(ErrorKind::kCheckpoint, entry.path().string(), " is a link to ", real.string(), ", outside of ",
           root.string(), ". dsft does not follow it.");
    }
  }
}

std::string download_command(const std::string& id, const std::string& revision) {
  return concat("hf download ", id, revision == "main" ? "" : " --revision " + revision);
}

/// "models/name", which might be a hub id too, where a folder `models` is here: a path is meant.
[[noreturn]] void fail_on_missing_folder(const std::string& parent, const std::string& name,
                                         const std::string& revision) {
  const std::string path = parent + "/" + name;
  std::vector<std::string> present;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(parent, error)) present.push_back(entry.path().filename().string());
  const std::string nearest = nearest_name(name, present);
  fail(ErrorKind::kCheckpoint, "There is no folder ", path, " (", parent,
       "/ is here, so a path is meant, and no id of a model on the hub)",
       nearest.empty() ? ". Download it" : concat("; did you mean ", parent, "/", nearest, "? Or download it"),
       " where there is a network: ", download_command("OWNER/" + name, revision), " --local-dir ", path);
}

}  // namespace

fs::path find_model(const std::string& path_or_id, const std::string& revision) {
  std::error_code unreachable;  // a name longer than a path may be is no folder either
  if (fs::is_directory(path_or_id, unreachable)) return path_or_id;
  if (fs::exists(path_or_id, unreachable))
    fail(ErrorKind::kCheckpoint, path_or_id, " is a file; a model is a folder with config.json and safetensors files.");
  const std::string wanted = revision.empty() ? "main" : revision;
  if (!is_hub_id(path_or_id)) {
    fail(ErrorKind::kCheckpoint, "There is no folder ", path_or_id,
         ", and it is no id of a model on the hub (owner/name). Check the path; it is relative to the working "
         "directory.");
  }
  if (!is_revision(wanted))
    fail(ErrorKind::kUsage, "model.revision \"", wanted, "\" is no name of a branch, tag or commit.");
  std::vector<std::string> searched;
  bool has_other_revision = false;
  for (const fs::path& cache : cache_folders()) {
    const fs::path folder = cache / model_folder_name(path_or_id);
    searched.push_back(cache.string());
    if (!fs::is_directory(folder, unreachable)) continue;
    const fs::path snapshot = find_snapshot(folder, wanted);
    if (snapshot.empty()) {
      has_other_revision = true;
      continue;
    }
    check_links(snapshot, folder);
    return snapshot;
  }
  const size_t slash = path_or_id.find('/');
  if (slash != std::string::npos && fs::is_directory(path_or_id.substr(0, slash), unreachable))
    fail_on_missing_folder(path_or_id.substr(0, slash), path_or_id.substr(slash + 1), wanted);
  fail(ErrorKind::kCheckpoint, "There is no folder ", path_or_id, ", and the Hugging Face cache does not hold ",
       path_or_id, has_other_revision ? concat(" at revision ", wanted) : "", " (searched: ", join_words(searched),
       "). Download it where there is a network: ", download_command(path_or_id, wanted));
}

}  // namespace dsft::spec
