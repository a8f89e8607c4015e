#include "text/tokenizer.h"

#include <algorithm>
#include <limits>
#include <mutex>

#include "base/error.h"
#include "io/file.h"
#include "io/utf8.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_json.h"

namespace dsft::text {
namespace {

/// The scratch memory of one encoding; kept between calls, so that words met before are known.
struct Workspace {
  Bpe::Workspace bpe;
  WordCut cut;
  std::vector<TextPart> parts;
  std::vector<TextPart> inner_parts;
};

/// Workspaces that no thread uses at the moment.
class WorkspacePool {
 public:
  std::unique_ptr<Workspace> take() {
    std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<Workspace>();
    auto workspace = std::move(free_.back());
    free_.pop_back();
    return workspace;
  }
  void give_back(std::unique_ptr<Workspace> workspace) {
    std::lock_guard lock(mutex_);
    free_.push_back(std::move(workspace));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_;
};

constexpr uint64_t kMaxFileBytes = 256 << 20;

void append(Encoding& out, int32_t id, ByteRange source) {
  out.ids.push_back(id);
  out.begins.push_back(static_cast<uint32_t>(source.begin));
  out.ends.push_back(static_cast<uint32_t>(source.end));
}

void append_all(Encoding& out, const std::vector<int32_t>& ids, size_t position) {
  for (int32_t id : ids) append(out, id, {position, position});
}

}  // namespace

struct Tokenizer::State {
  explicit State(TokenizerParts from) : parts(std::move(from)) {
    for (const AddedToken& token : parts.added_tokens) add_token(token);
  }

  void add_token(const AddedToken& token) {
    num_ids = std::max<int64_t>(num_ids, token.id + 1);
    by_id.emplace(token.id, &token);
    by_content.emplace(token.content, token.id);
    if (!token.normalized) return raw_finder.add(token.content, &token);
    AlignedText pattern(token.content, {0, token.content.size()});
    parts.normalizer(pattern);
    normalized_finder.add(pattern.text(), &token);
  }

  void encode_words(Workspace& workspace, Encoding& out) const;
  void encode_text(std::string_view input, ByteRange range, std::span<const ByteRange> plain_ranges,
                   Workspace& workspace, Encoding& out) const;
  std::string_view string_of(int32_t id) const {
    const auto added = by_id.find(id);
    return added != by_id.end() ? std::string_view(added->second->content) : parts.model.vocabulary().token(id);
  }

  std::optional<int32_t> id_of(std::string_view token) const {
    if (token.empty()) return std::nullopt;
    const auto added = by_content.find(std::string(token));
    return added != by_content.end() ? std::optional(added->second) : parts.model.vocabulary().find(token);
  }
  void require_token(const char* role, const std::filesystem::path& directory) const {
    const std::string token = find_role(roles, role);
    if (!token.empty() && !id_of(token))
      fail(ErrorKind::kCheckpoint, directory.string(), ": ", role, " is \"", token.substr(0, 80),
           "\", which tokenizer.json does not have as a token. Add the token to the tokenizer and a row for it to the "
           "embedding, or correct tokenizer_config.json.");
  }

  TokenizerParts parts;
  SpecialTokenMap roles;
  AddedTokenFinder raw_finder;
  AddedTokenFinder normalized_finder;
  std::unordered_map<int32_t, const AddedToken*> by_id;
  std::unordered_map<std::string, int32_t> by_content;
  int64_t num_ids = parts.model.vocabulary().num_ids();
  mutable WorkspacePool pool;
};

void Tokenizer::State::encode_words(Workspace& workspace, Encoding& out) const {
  for (const Word& word : workspace.cut.words) {
    const AlignedText& source = workspace.cut.texts[word.text];
    parts.model.encode_word(workspace.cut.bytes_of(word), workspace.bpe);
    size_t begin = word.begin;
    for (const Symbol& symbol : workspace.bpe.symbols) {
      append(out, symbol.id, source.source(begin, begin + symbol.size));
      begin += symbol.size;
    }
  }
}

/// Encodes a stretch of the input that holds no unnormalized added token.
void Tokenizer::State::encode_text(std::string_view input, ByteRange range, std::span<const ByteRange> plain_ranges,
                                   Workspace& workspace, Encoding& out) const {
  WordCut& cut = workspace.cut;
  cut.texts.clear();
  AlignedText& text = cut.texts.emplace_back(input, range);
  parts.normalizer(text);
  workspace.inner_parts.clear();
  normalized_finder.cut(text, plain_ranges, workspace.inner_parts);
  for (const TextPart& part : workspace.inner_parts) {
    if (part.token) {
      append(out, part.token->id, text.source(part.begin, part.end));
      continue;
    }
    cut.words.assign(1, {0, static_cast<uint32_t>(part.begin), static_cast<uint32_t>(part.end)});
    for (const auto& step : parts.pre_tokenizer.steps) step(cut);
    encode_words(workspace, out);
  }
}

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const std::filesystem::path& directory) {
  const auto file = directory / "tokenizer.json";
  if (!std::filesystem::exists(file)) {
    fail(ErrorKind::kCheckpoint, file.string(),
         " does not exist; a model directory needs the tokenizer.json of a Hugging Face fast tokenizer");
  }
  Tokenizer tokenizer = parse(io::read_text_file(file, kMaxFileBytes), file.string());
  tokenizer.state_->roles = read_token_roles(directory);
  // text that is no token would be learned as text, and a generation would never end
  tokenizer.state_->require_token("bos_token", directory);
  tokenizer.state_->require_token("eos_token", directory);
  return tokenizer;
}

Tokenizer Tokenizer::parse(std::string_view json, const std::string& name) {
  return Tokenizer(std::make_unique<State>(read_tokenizer_json(json, name)));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  return encode_with_offsets(text, add_special_tokens).ids;
}

Encoding Tokenizer::encode_with_offsets(std::string_view text, bool add_special_tokens,
                                        std::span<const ByteRange> plain_ranges) const {
  if (const size_t bad = io::find_invalid_utf8(text); bad != std::string_view::npos) {
    fail(ErrorKind::kData, "a text is no valid UTF-8 at byte ", bad, " of ", text.size(),
         "; convert the data to UTF-8");
  }
  // a normalizer may make up to 18 characters of one
  if (text.size() > std::numeric_limits<uint32_t>::max() / 64)
    fail(ErrorKind::kData, "a text has ", text.size(), " bytes; the limit is 64 MB, split it into documents");
  auto workspace = state_->pool.take();
  Encoding out;
  if (add_special_tokens) append_all(out, state_->parts.post_processor.prefix, 0);
  workspace->parts.clear();
  state_->raw_finder.cut(AlignedText(text, {0, text.size()}), plain_ranges, workspace->parts);
  for (const TextPart& part : workspace->parts) {
    if (part.token) {
      append(out, part.token->id, {part.begin, part.end});
    } else {
      state_->encode_text(text, {part.begin, part.end}, plain_ranges, *workspace, out);
    }
  }
  if (add_special_tokens) append_all(out, state_->parts.post_processor.suffix, text.size());
  state_->pool.give_back(std::move(workspace));
  return out;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (int32_t id : ids) {
    const std::string_view token = state_->string_of(id);
    if (!token.empty() && !(skip_special_tokens && is_special(id))) tokens.emplace_back(token);
  }
  state_->parts.decoder(tokens);
  std::string text;
  for (const auto& token : tokens) text += token;
  return text;
}

std::string Tokenizer::id_to_token(int32_t id) const {
  return std::string(state_->string_of(id));
}

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  return state_->id_of(token);
}

bool Tokenizer::is_special(int32_t id) const {
  const auto added = state_->by_id.find(id);
  return added != state_->by_id.end() && added->second->special;
}

int64_t Tokenizer::num_ids() const {
  return state_->num_ids;
}

std::optional<int32_t> Tokenizer::bos_id() const {
  return token_to_id(bos_token());
}
std::optional<int32_t> Tokenizer::eos_id() const {
  return token_to_id(eos_token());
}
std::optional<int32_t> Tokenizer::pad_id() const {
  return token_to_id(pad_token());
}
std::string Tokenizer::bos_token() const {
  return find_role(state_->roles, "bos_token");
}
std::string Tokenizer::eos_token() const {
  return find_role(state_->roles, "eos_token");
}
std::string Tokenizer::pad_token() const {
  return find_role(state_->roles, "pad_token");
}
std::string Tokenizer::unk_token() const {
  return find_role(state_->roles, "unk_token");
}
const SpecialTokenMap& Tokenizer::special_tokens() const {
  return state_->roles;
}

}  // namespace dsft::text
