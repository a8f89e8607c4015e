#include "text/tokenizer_json.h"

#include <algorithm>
#include <map>
#include <unordered_set>

#include "base/error.h"
#include "io/json.h"
#include "io/utf8.h"
#include "text/json_cursor.h"
#include "text/json_fields.h"

namespace dsft::text {
namespace {

/// A search for added tokens may take so many steps at every byte of a text.
constexpr size_t kMaxAddedTokenBytes = 1024;

/// Where the values of an object start in the file, by key.
using MemberPositions = std::map<std::string, size_t, std::less<>>;

/// The members of the object at the cursor; `on_value(key)` must consume each value.
template <typename Function>
MemberPositions find_members(JsonCursor& cursor, Function on_value) {
  MemberPositions positions;
  cursor.for_each_member([&](std::string_view key) {
    cursor.peek();
    if (!positions.emplace(key, cursor.position()).second)
      cursor.fail_here(concat("the field \"", key, "\" appears twice"));
    on_value(key);
  });
  return positions;
}

/// The value of a small member as a tree; null where it is absent.
nlohmann::json parse_member(std::string_view json, const std::string& name, const MemberPositions& members,
                            const char* key) {
  const auto found = members.find(key);
  if (found == members.end()) return nullptr;
  JsonCursor cursor(json, name, found->second);
  return io::parse_json(cursor.skip_value(), concat(name, ": ", key));
}

JsonCursor cursor_at(std::string_view json, const std::string& name, const MemberPositions& members, const char* key) {
  const auto found = members.find(key);
  if (found == members.end()) fail(ErrorKind::kCheckpoint, name, ": model: the field \"", key, "\" is missing");
  return JsonCursor(json, name, found->second);
}

Vocabulary read_vocabulary(JsonCursor cursor, size_t size_hint) {
  Vocabulary vocabulary;
  vocabulary.reserve(size_hint / 40, size_hint / 4);  // a token and its merge take about 60 bytes of the file
  cursor.for_each_member([&](std::string_view token) {
    // the key may live in the cursor's scratch, so it is used before the next read
    const int64_t id = cursor.read_integer();
    if (id < 0 || id >= Vocabulary::kMaxIds)
      cursor.fail_here(
          concat("token \"", token, "\" has the id ", id, "; ids are from 0 to ", Vocabulary::kMaxIds - 1));
    switch (vocabulary.add(token, static_cast<int32_t>(id))) {
      case Vocabulary::Insertion::kDuplicateToken:
        cursor.fail_here(concat("token \"", token, "\" appears twice in the vocabulary"));
      case Vocabulary::Insertion::kDuplicateId:
        cursor.fail_here(concat("tokens \"", vocabulary.token(static_cast<int32_t>(id)), "\" and \"", token,
                                "\" have the same id ", id));
      case Vocabulary::Insertion::kDone:
        break;
    }
  });
  if (vocabulary.size() == 0) cursor.fail_here("the vocabulary is empty");
  return vocabulary;
}

void add_merge(Bpe& model, std::string_view left, std::string_view right, const JsonCursor& cursor) {
  const auto fault = model.add_merge(left, right);
  if (fault == Bpe::MergeFault::kNone) return;
  const std::string unknown = fault == Bpe::MergeFault::kLeftUnknown    ? std::string(left)
                              : fault == Bpe::MergeFault::kRightUnknown ? std::string(right)
                                                                        : concat(left, right);
  cursor.fail_here(concat("the merge of \"", left, "\" and \"", right, "\" needs the token \"", unknown,
                          "\", which is not in the vocabulary"));
}

/// Reads merges in both spellings: "a b", and ["a", "b"], which tokens with spaces need.
void read_merges(JsonCursor cursor, Bpe& model) {
  model.reserve_merges(model.vocabulary().size());
  std::string scratch[2];
  cursor.for_each_element([&] {
    if (cursor.peek() == '[') {
      cursor.expect('[');
      const std::string_view left = cursor.read_string(scratch[0]);
      cursor.expect(',');
      const std::string_view right = cursor.read_string(scratch[1]);
      cursor.expect(']');
      return add_merge(model, left, right, cursor);
    }
    const std::string_view merge = cursor.read_string(scratch[0]);
    const size_t space = merge.find(' ');
    if (space == std::string_view::npos || merge.find(' ', space + 1) != std::string_view::npos) {
      cursor.fail_here(concat("the merge \"", merge, "\" must be two tokens with one space between"));
    }
    add_merge(model, merge.substr(0, space), merge.substr(space + 1), cursor);
  });
}

void refuse_if_set(const JsonFields& fields, const char* name) {
  if (fields.has(name) && !(fields.value(name).is_string() && fields.string(name).empty())) {
    fields.fail_here(concat("BPE with ", name, " is not supported"));
  }
}

Bpe read_model(std::string_view json, const std::string& name, const MemberPositions& members, BpeAlphabet alphabet) {
  nlohmann::json small = nlohmann::json::object();
  for (const auto& [key, position] : members) {
    if (key != "vocab" && key != "merges") small[key] = parse_member(json, name, members, key.c_str());
  }
  const JsonFields fields(small, name + ": model");
  if (const std::string type = fields.string_or("type", "BPE"); type != "BPE") {
    fields.fail_here("the model \"" + type + "\" is not supported; only BPE is");
  }
  if (fields.has("dropout") && fields.value("dropout") != 0.0)
    fields.fail_here("BPE with dropout is not supported: ids would be random");
  refuse_if_set(fields, "continuing_subword_prefix");
  refuse_if_set(fields, "end_of_word_suffix");
  Vocabulary vocabulary = read_vocabulary(cursor_at(json, name, members, "vocab"), json.size());
  BpeOptions options;
  options.alphabet = alphabet;
  options.ignore_merges = fields.boolean_or("ignore_merges", false);
  options.byte_fallback = fields.boolean_or("byte_fallback", false);
  options.fuse_unk = fields.boolean_or("fuse_unk", false);
  if (fields.has("unk_token")) {
    options.unk_id = vocabulary.find(fields.string("unk_token"));
    if (!options.unk_id)
      fields.fail_here("the unk_token \"" + fields.string("unk_token") + "\" is not in the vocabulary");
  }
  Bpe model(options, std::move(vocabulary));
  read_merges(cursor_at(json, name, members, "merges"), model);
  return model;
}

AddedToken read_added_token(const JsonFields& fields) {
  AddedToken token;
  token.content = fields.string("content");
  if (token.content.size() > kMaxAddedTokenBytes)
    fields.fail_here(concat("the content is longer than ", kMaxAddedTokenBytes, " bytes"));
  const int64_t id = fields.integer("id");
  if (id < 0 || id >= Vocabulary::kMaxIds) fields.fail_here(concat("token \"", token.content, "\" has the id ", id));
  token.id = static_cast<int32_t>(id);
  token.single_word = fields.boolean_or("single_word", false);
  token.lstrip = fields.boolean_or("lstrip", false);
  token.rstrip = fields.boolean_or("rstrip", false);
  token.special = fields.boolean_or("special", false);
  token.normalized = fields.boolean_or("normalized", !token.special);
  return token;
}

/// Checks that a token's id is the one that Hugging Face's library gives it: the vocabulary's, or the next free one.
/// That library passes over a different number in the file, so such a file means two things.
void check_id(const AddedToken& token, const Vocabulary& vocabulary, int32_t next_id, const std::string& where) {
  const int32_t expected = vocabulary.find(token.content).value_or(next_id);
  if (token.id != expected) {
    fail(ErrorKind::kCheckpoint, where, ": token \"", token.content, "\" has the id ", token.id,
         ", but Hugging Face's tokenizers numbers it ", expected, "; write the tokenizer anew with save_pretrained");
  }
}

std::vector<AddedToken> read_added_tokens(const nlohmann::json& list, const Vocabulary& vocabulary,
                                          const std::string& where) {
  std::vector<AddedToken> tokens;
  if (list.is_null()) return tokens;
  if (!list.is_array()) fail(ErrorKind::kCheckpoint, where, ": must be a list");
  std::unordered_set<std::string> seen;
  auto next_id = static_cast<int32_t>(vocabulary.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string here = concat(where, "[", i, "]");
    AddedToken token = read_added_token(JsonFields(list[i], here));
    if (token.content.empty()) fail(ErrorKind::kCheckpoint, here, ": the content is empty");
    if (!seen.insert(token.content).second)
      fail(ErrorKind::kCheckpoint, here, ": token \"", token.content, "\" appears twice");
    check_id(token, vocabulary, next_id, here);
    next_id = std::max(next_id, token.id + 1);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace

TokenizerParts read_tokenizer_json(std::string_view json, const std::string& name) {
  if (const size_t bad = io::find_invalid_utf8(json); bad != std::string_view::npos) {
    fail(ErrorKind::kCheckpoint, name, ": byte ", bad,
         " is no valid UTF-8; the file is damaged or not a Hugging Face tokenizer.json");
  }
  JsonCursor cursor(json, name);
  MemberPositions model_members;
  const MemberPositions top = find_members(cursor, [&](std::string_view key) {
    if (key != "model") return static_cast<void>(cursor.skip_value());
    model_members = find_members(cursor, [&](std::string_view) { cursor.skip_value(); });
  });
  cursor.expect_end();
  if (!top.contains("model")) fail(ErrorKind::kCheckpoint, name, ": the field \"model\" is missing");
  auto member = [&](const char* key) { return parse_member(json, name, top, key); };
  PreTokenizer pre_tokenizer = build_pre_tokenizer(member("pre_tokenizer"), name + ": pre_tokenizer");
  Normalizer normalizer = build_normalizer(member("normalizer"), name + ": normalizer");
  PostProcessor post_processor = build_post_processor(member("post_processor"), name + ": post_processor");
  Decoder decoder = build_decoder(member("decoder"), name + ": decoder");
  Bpe model = read_model(json, name, model_members,
                         pre_tokenizer.is_byte_level ? BpeAlphabet::kBytes : BpeAlphabet::kCharacters);
  std::vector<AddedToken> added =
      read_added_tokens(member("added_tokens"), model.vocabulary(), name + ": added_tokens");
  for (const AddedToken& token : added) {
    if (token.special) model.exclude_whole_word(token.id);
  }
  return {std::move(added), std::move(normalizer),     std::move(pre_tokenizer),
          std::move(model), std::move(post_processor), std::move(decoder)};
}

}  // namespace dsft::text
