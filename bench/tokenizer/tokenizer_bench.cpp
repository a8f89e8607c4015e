// Encodes the texts of a JSONL file (one JSON string a line) with dsft's tokenizer on one thread.
//   tokenizer_bench MODEL_DIR TEXTS.jsonl              prints one JSON line: seconds to load, MB/s, tokens
//   tokenizer_bench MODEL_DIR TEXTS.jsonl --dump       prints per text {"ids", "begins", "ends", "decoded"}, for
//   scripts/parity/tokenizer.py

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/stopwatch.h"
#include "text/tokenizer.h"

namespace {

std::vector<std::string> read_texts(const char* file) {
  std::ifstream in(file);
  std::vector<std::string> texts;
  for (std::string line; std::getline(in, line);) texts.push_back(nlohmann::json::parse(line).get<std::string>());
  return texts;
}

void dump(const dsft::text::Tokenizer& tokenizer, const std::vector<std::string>& texts) {
  for (const auto& text : texts) {
    const auto encoding = tokenizer.encode_with_offsets(text, true);
    std::cout << nlohmann::json{{"ids", encoding.ids},
                                {"begins", encoding.begins},
                                {"ends", encoding.ends},
                                {"decoded", tokenizer.decode(encoding.ids, false)}}
              << '\n';
  }
}

void measure(const dsft::text::Tokenizer& tokenizer, const std::vector<std::string>& texts, double load_s) {
  double best_s = 1e9;
  size_t num_bytes = 0, num_tokens = 0;
  for (int round = 0; round < 5; ++round) {
    const dsft::Stopwatch watch;
    num_bytes = num_tokens = 0;
    for (const auto& text : texts) {
      num_tokens += tokenizer.encode(text, true).size();
      num_bytes += text.size();
    }
    best_s = std::min(best_s, watch.seconds());
  }
  std::cout << nlohmann::json{{"load_s", load_s}, {"mb_per_s", num_bytes / best_s / 1e6}, {"num_tokens", num_tokens}}
            << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: tokenizer_bench MODEL_DIR TEXTS.jsonl [--dump]\n";
    return 2;
  }
  try {
    const dsft::Stopwatch watch;
    const auto tokenizer = dsft::text::Tokenizer::load(argv[1]);
    const double load_s = watch.seconds();
    const auto texts = read_texts(argv[2]);
    if (argc > 3) {
      dump(tokenizer, texts);
    } else {
      measure(tokenizer, texts, load_s);
    }
  } catch (const dsft::Error& error) {
    std::cerr << error.full_message() << '\n';
    return error.exit_code();
  }
}
