#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dsft::text {

/// Token ids and, for each, the bytes [begin, end) of the input text that it came from (before normalization; a token
/// that the post-processor added has begin == end).
struct Encoding {
  std::vector<int32_t> ids;
  std::vector<uint32_t> begins;
  std::vector<uint32_t> ends;
};

/// The special tokens that a chat template sees as variables: {"bos_token", "<s>"}, ... An absent one is undefined, as
/// in transformers.
using SpecialTokenMap = std::vector<std::pair<std::string, std::string>>;

/// A byte range of a text in which special tokens may not be recognised (what a user wrote into a message).
struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
};

/// A Hugging Face fast tokenizer: tokenizer.json is the truth for ids, tokenizer_config.json for the special tokens'
/// roles. Immutable and safe to share between threads.
class Tokenizer {
 public:
  /// Reads DIR/tokenizer.json and, where present, tokenizer_config.json. Throws kCheckpoint with the file and what is
  /// wrong or not supported, a bos_token or eos_token that is no token included.
  static Tokenizer load(const std::filesystem::path& directory);

  /// Reads the text of a tokenizer.json alone: no token has a role. `name` stands in messages.
  static Tokenizer parse(std::string_view tokenizer_json, const std::string& name);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Ids of a text (UTF-8; throws kData at the first invalid byte); `add_special_tokens` runs the post-processor's
  /// template.
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens) const;

  /// The same with byte offsets. In `plain_ranges` (sorted, disjoint) a text that looks like a special token is
  /// ordinary text.
  Encoding encode_with_offsets(std::string_view text, bool add_special_tokens,
                               std::span<const ByteRange> plain_ranges = {}) const;

  /// Text of ids, as Hugging Face's decode with clean_up_tokenization_spaces=False. Bytes that are no valid UTF-8
  /// become U+FFFD.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  /// The token's own string as in the vocabulary ("Ġhello"), or "" for an id that has none.
  std::string id_to_token(int32_t id) const;
  std::optional<int32_t> token_to_id(std::string_view token) const;
  bool is_special(int32_t id) const;

  /// One past the largest id, added tokens included: the embedding must have at least so many rows.
  int64_t num_ids() const;

  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  std::optional<int32_t> pad_id() const;
  /// The strings of bos_token, eos_token, ...; empty when absent.
  std::string bos_token() const;
  std::string eos_token() const;
  std::string pad_token() const;
  std::string unk_token() const;
  /// transformers' special_tokens_map: these and sep_token, cls_token, mask_token, image_token, ... where present.
  const SpecialTokenMap& special_tokens() const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace dsft::text
