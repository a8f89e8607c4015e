#include "data/dataset.h"

#include <algorithm>
#include <ctime>
#include <numeric>
#include <optional>
#include <thread>

#include "base/counter_random.h"
#include "base/error.h"
#include "data/row_file.h"
#include "data/source_fingerprint.h"
#include "data/tokenise_file.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/json.h"

namespace dsft::data {

namespace {

constexpr uint64_t kMaxTemplateBytes = 64 << 20;

/// What is the same for all files of a recipe; the tokenizer is loaded when the first file needs it.
struct Preparation {
  const DataConfig& config;
  const Logger& logger;
  const spec::TextFolders& folders;
  std::filesystem::path cache_directory;
  TokeniseOptions tokenise;
  std::string common_key;
  std::optional<TextAssets> assets;

  const TextAssets& text_assets() {
    if (!assets) assets = TextAssets::load(folders, config.chat_template.value_or(""));
    return *assets;
  }
};

bool is_file(const std::filesystem::path& file) {
  std::error_code unreachable;
  return std::filesystem::is_regular_file(file, unreachable);
}

std::string hash_of(const std::filesystem::path& file) {
  return is_file(file) ? io::to_hex(io::xxh64_of_file(file)) : "none";
}

/// The files of a model that chat templates stand in.
std::vector<std::filesystem::path> template_files(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> files{directory / "chat_template.jinja", directory / "tokenizer_config.json"};
  std::error_code missing;
  for (const auto& entry : std::filesystem::directory_iterator(directory / "additional_chat_templates", missing))
    files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

/// What such a template writes depends on the day.
bool asks_for_the_date(const std::filesystem::path& file) {
  if (!is_file(file)) return false;
  return io::read_text_file(file, kMaxTemplateBytes).find("strftime_now") != std::string::npos;
}

/// Names everything but the rows that tokens depend on.
std::string describe_settings(const DataConfig& config, const spec::TextFolders& folders, const std::string& date) {
  std::string text =
      concat("dsft ", source_fingerprint(), " max_length ", config.max_length, " overlong ",
             static_cast<int>(config.overlong), " loss_on ", static_cast<int>(config.loss_on), " unsupervised ",
             static_cast<int>(config.unsupervised_rows), " kwargs ", config.chat_template_kwargs);
  for (const auto& file : {folders.text / "tokenizer.json", folders.text / "special_tokens_map.json",
                           folders.model / "generation_config.json"})
    text += concat(" ", file.filename().string(), " ", hash_of(file));
  std::vector<std::filesystem::path> templates = template_files(folders.text);
  if (config.chat_template) templates.push_back(*config.chat_template);
  for (const auto& file : templates) text += concat(" ", file.filename().string(), " ", hash_of(file));
  if (std::any_of(templates.begin(), templates.end(), asks_for_the_date)) text += " on " + date;
  return text;
}

TokeniseOptions make_tokenise_options(const DataConfig& config) {
  TokeniseOptions options;
  options.max_length = config.max_length;
  options.overlong = config.overlong;
  options.unsupervised_rows = config.unsupervised_rows;
  options.loss_on = config.loss_on;
  options.template_kwargs =
      io::parse_ordered_json(config.chat_template_kwargs, "data.chat_template_kwargs", ErrorKind::kUsage);
  const int64_t all_cores = std::max(1u, std::thread::hardware_concurrency());
  options.num_workers = static_cast<int>(std::min(config.num_workers.value_or(all_cores), kMostWorkers));
  return options;
}

std::shared_ptr<const TokenCache> prepare_file(const DataFile& file, Preparation& preparation) {
  const std::filesystem::path path = file.path;
  std::error_code unreachable;
  if (!std::filesystem::is_regular_file(path, unreachable))
    fail(ErrorKind::kData, "The data file ", file.path,
         " does not exist or is no file (paths are relative to the working directory).");
  const CacheKey key =
      make_cache_key(concat(preparation.common_key, " rows ", hash_of(path), " ", path.extension().string()));
  const std::filesystem::path cache_path =
      preparation.cache_directory / (path.stem().string() + "-" + io::to_hex(key.first) + ".tokens");
  std::string why;
  std::shared_ptr<const TokenCache> cache = TokenCache::open(cache_path, key, why);
  if (cache) return cache;
  if (!why.empty())
    preparation.logger.warn("the cache file ", cache_path.string(), " cannot be used (", why, "); it is made again");
  TokenCacheWriter writer(cache_path, key);
  const RowCounts counts =
      tokenise_file(path, preparation.text_assets(), preparation.tokenise, writer, preparation.logger);
  writer.finish(counts);
  cache = TokenCache::open(cache_path, key, why);
  if (!cache)
    fail(ErrorKind::kData, "The cache file ", cache_path.string(), " was written but cannot be read back",
         why.empty() ? "" : ": ", why, ".");
  return cache;
}

std::vector<Dataset::Part> prepare_files(const std::vector<DataFile>& files, const char* name, Preparation& preparation,
                                         RowCounts& counts) {
  std::vector<Dataset::Part> parts;
  for (const DataFile& file : files) {
    Dataset::Part part{prepare_file(file, preparation), {}, file.path, file.weight};
    part.rows.resize(static_cast<size_t>(part.cache->size()));
    std::iota(part.rows.begin(), part.rows.end(), int64_t{0});
    const RowCounts& of_file = part.cache->counts();
    preparation.logger.info(file.path, ": ", describe(of_file));
    if (of_file.without_eos > 0)
      preparation.logger.warn(file.path, ": ", of_file.without_eos,
                              " rows of plain text end without a token that says so, because tokenizer_config.json "
                              "names no eos_token: the model will not learn to stop");
    counts += of_file;
    parts.push_back(std::move(part));
  }
  if (!files.empty() && counts.kept == 0)
    fail(ErrorKind::kData, "No row of ", name, " can be used: ", describe(counts),
         ". Look at some rows with `dsft preview`; data.loss_on and data.max_length decide what is kept.");
  return parts;
}

/// Moves the share eval_fraction of each training file to the evaluation rows.
void hold_out(std::vector<Dataset::Part>& train, std::vector<Dataset::Part>& eval, uint64_t seed, double fraction) {
  for (size_t file = 0; file < train.size(); ++file) {
    Dataset::Part& part = train[file];
    const auto is_kept = [&](int64_t row) { return !is_held_out(seed, file, part.cache->row_number(row), fraction); };
    const auto first_held_out = std::stable_partition(part.rows.begin(), part.rows.end(), is_kept);
    eval.push_back({part.cache, {first_held_out, part.rows.end()}, part.path, 1.0});
    part.rows.erase(first_held_out, part.rows.end());
  }
}

}  // namespace

std::string local_date() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[16];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d", &local)};
}

Dataset::Dataset(std::vector<Part> parts) : parts_(std::move(parts)), begins_{0} {
  for (const Part& part : parts_) begins_.push_back(begins_.back() + static_cast<int64_t>(part.rows.size()));
}

Dataset::Place Dataset::locate(int64_t row) const {
  DSFT_CHECK(row >= 0 && row < size(), "row ", row, " of ", size());
  const auto file = static_cast<size_t>(std::upper_bound(begins_.begin(), begins_.end(), row) - begins_.begin() - 1);
  return {&parts_[file], parts_[file].rows[static_cast<size_t>(row - begins_[file])]};
}

int64_t Dataset::length(int64_t row) const {
  const Place place = locate(row);
  return place.part->cache->length(place.row);
}

int64_t Dataset::num_supervised(int64_t row) const {
  const Place place = locate(row);
  return place.part->cache->num_supervised(place.row);
}

Example Dataset::read(int64_t row) const {
  const Place place = locate(row);
  return place.part->cache->read(place.row);
}

std::string Dataset::describe_row(int64_t row) const {
  const Place place = locate(row);
  return name_row(place.part->path, place.part->cache->row_number(place.row));
}

std::vector<double> Dataset::file_weights() const {
  std::vector<double> weights;
  for (const Part& part : parts_) weights.push_back(part.weight);
  return weights;
}

std::vector<CacheKey> Dataset::contents() const {
  std::vector<CacheKey> keys;
  for (const Part& part : parts_) keys.push_back(part.cache->contents());
  return keys;
}

bool is_held_out(uint64_t seed, uint64_t file, int64_t row_number, double fraction) {
  return CounterStream(seed, hash_name("eval_fraction"), file).uniform(static_cast<uint64_t>(row_number)) < fraction;
}

PreparedData prepare_data(const DataConfig& config, const PrepareOptions& options, const Logger& logger) {
  const std::filesystem::path cache =
      options.cache_directory.empty() ? default_cache_directory() : options.cache_directory;
  Preparation preparation{config,
                          logger,
                          options.folders,
                          cache,
                          make_tokenise_options(config),
                          describe_settings(config, options.folders, options.date),
                          {}};
  PreparedData data;
  std::vector<Dataset::Part> train = prepare_files(config.train, "data.train", preparation, data.train_counts);
  std::vector<Dataset::Part> eval = prepare_files(config.eval, "data.eval", preparation, data.eval_counts);
  if (config.eval_fraction > 0) hold_out(train, eval, options.seed, config.eval_fraction);
  data.train = std::make_shared<const Dataset>(std::move(train));
  data.eval = std::make_shared<const Dataset>(std::move(eval));
  if (data.train->size() == 0 && !config.train.empty())
    fail(ErrorKind::kData, "data.eval_fraction: ", config.eval_fraction, " leaves no row to train on.");
  return data;
}

EpochPlanOptions make_plan_options(const DataConfig& config, const Dataset& dataset, uint64_t seed) {
  EpochPlanOptions options;
  options.seed = seed;
  options.shuffle = config.shuffle;
  options.packing = config.packing;
  options.max_length = config.max_length;
  options.file_begins = dataset.file_begins();
  options.file_weights = dataset.file_weights();
  return options;
}

}  // namespace dsft::data
