// Both kinds of tokenizer: round trips, hashes, deterministic training, what a scenario may write,
// and misuse.
#include "engine/data/tokenizer.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/engine/data_support.h"

namespace strait {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> tokens;
  tokenizer.encode(text, tokens);
  return tokens;
}

// Some thousand lines of made-up words, with indentation, digits and accents.
std::string sample_text() {
  const char* const syllables[] = {"sta", "pipe", "mes", "na\xC3\xAF", "the",  "net", "work",
                                   "of",  "rank", "sen", "byte",       "line", "ve",  "ge"};
  std::string text;
  unsigned state = 1;
  const auto draw = [&](unsigned below) {
    return ((state = state * 1664525u + 1013904223u) >> 16u) % below;
  };
  for (int line = 0; line < 2000; ++line) {
    text.append(draw(4), ' ');
    for (int word = 0; word < 6; ++word) {
      for (unsigned n = draw(3) + 1; n > 0; --n) text += syllables[draw(14)];
      text += ' ';
    }
    text.append(std::to_string(line)).append("\n");
  }
  return text;
}

class SentencePiece : public DataTest {
 protected:
  SentencePiece() : text(sample_text()) { write_bytes(folder / "text.txt", text); }
  std::unique_ptr<Tokenizer> trained(SentencePieceType type) {
    train_sentencepiece({folder / "text.txt"}, 400, type, folder / "a.model");
    return load_sentencepiece(folder / "a.model");
  }
  std::string text;
};

TEST(ByteTokenizer, RoundTripsAnyBytes) {
  const auto tokenizer = byte_tokenizer();
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  EXPECT_EQ(tokenizer->decode(encode(*tokenizer, all)), all);
  EXPECT_THAT(encode(*tokenizer, "a\xFF"), ElementsAre(97, 255));
}

TEST(ByteTokenizer, Has257TokensPaddedTo320) {
  const auto tokenizer = byte_tokenizer();
  EXPECT_EQ(tokenizer->vocabulary(), 257);
  EXPECT_EQ(tokenizer->end_of_document(), 256);
  EXPECT_EQ(padded_vocabulary(257), 320);
  EXPECT_EQ(padded_vocabulary(50257), 50304);
  EXPECT_EQ(padded_vocabulary(32000), 32000);
}

TEST(ByteTokenizer, DecodesTheEndOfADocumentToNothingAndRefusesOthers) {
  const auto tokenizer = byte_tokenizer();
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{256, 72, 105, 256}), "Hi");
  EXPECT_THROW(tokenizer->decode(std::vector<int32_t>{257}), std::out_of_range);
  EXPECT_THROW(tokenizer->decode(std::vector<int32_t>{-1}), std::out_of_range);
}

TEST_F(SentencePiece, TrainedModelsRoundTripEverything) {
  for (const auto type : {SentencePieceType::bpe, SentencePieceType::unigram}) {
    const auto tokenizer = trained(type);
    EXPECT_EQ(tokenizer->vocabulary(), 400);
    EXPECT_EQ(tokenizer->decode(encode(*tokenizer, text)), text);
    const std::string foreign = "  \t\xE2\x82\xAC \n\n\xF0\x9F\x98\x80 stages\nend";
    EXPECT_EQ(tokenizer->decode(encode(*tokenizer, foreign)), foreign);
    EXPECT_LT(encode(*tokenizer, text).size(), text.size() / 2) << "it has learnt the words";
  }
}

TEST_F(SentencePiece, ALongTextGivesTheTokensOfItsLines) {
  const auto tokenizer = trained(SentencePieceType::bpe);
  std::vector<int32_t> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin) + 1;
    tokenizer->encode(text.substr(begin, end - begin), lines);
    begin = end;
  }
  EXPECT_EQ(encode(*tokenizer, text), lines);
}

TEST_F(SentencePiece, TrainingTwiceGivesTheSameModel) {
  for (const auto type : {SentencePieceType::bpe, SentencePieceType::unigram}) {
    train_sentencepiece({folder / "text.txt"}, 400, type, folder / "one.model");
    std::filesystem::copy(folder / "text.txt", folder / "other.txt",
                          std::filesystem::copy_options::overwrite_existing);
    train_sentencepiece({folder / "other.txt"}, 400, type, folder / "two.model");
    EXPECT_EQ(load_sentencepiece(folder / "one.model")->hash(),
              load_sentencepiece(folder / "two.model")->hash());
  }
}

TEST_F(SentencePiece, TokensStayInsideOfTheVocabularyAndDecodeRefusesOthers) {
  const auto tokenizer = trained(SentencePieceType::bpe);
  for (int32_t token : encode(*tokenizer, text)) ASSERT_TRUE(token >= 0 && token < 400);
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{tokenizer->end_of_document()}), "");
  EXPECT_THROW(tokenizer->decode(std::vector<int32_t>{400}), std::out_of_range);
}

TEST_F(SentencePiece, RefusesImpossibleVocabulariesAndFilesThatAreNoModels) {
  const auto train = [&](int32_t vocabulary) {
    return error_of<std::invalid_argument>([&] {
      train_sentencepiece({folder / "text.txt"}, vocabulary, SentencePieceType::bpe,
                          folder / "x.model");
    });
  };
  EXPECT_THAT(train(100), HasSubstr("allowed are 320 to 1000000"));
  EXPECT_THAT(train(900'000), HasSubstr("900000 tokens on this text"));
  EXPECT_FALSE(std::filesystem::exists(folder / "x.model"));
  EXPECT_THAT(error_of<std::runtime_error>([&] { load_sentencepiece(folder / "text.txt"); }),
              HasSubstr("text.txt: not a SentencePiece model"));
  EXPECT_THAT(error_of<std::runtime_error>([&] { load_sentencepiece(folder / "no.model"); }),
              HasSubstr("No such file"));
}

TEST_F(SentencePiece, IsTrainedOnDemandOnce) {
  const auto spec =
      parse_tokenizer(json::parse(R"({"sentencepiece": {"vocabulary": 400, "type": "unigram"}})"));
  int notices = 0;
  const auto open = [&] {
    return open_tokenizer(spec, {folder / "text.txt"}, std::string(64, 'a'),
                          [&](const std::string&) { ++notices; });
  };
  const auto first = open()->hash();
  EXPECT_EQ(open()->hash(), first);
  EXPECT_EQ(notices, 1);
  EXPECT_TRUE(
      std::filesystem::exists(folder / "cache/tokenizers/aaaaaaaaaaaaaaaa-unigram-400.model"));
}

TEST(TokenizerSpec, TakesWhatTheScenarioAllows) {
  EXPECT_EQ(parse_tokenizer("byte").kind, TokenizerSpec::Kind::byte);
  for (const char* key : {"sentencepiece", "bpe"}) {
    const auto spec = parse_tokenizer(json{{key, "some/file.model"}});
    EXPECT_EQ(spec.kind, TokenizerSpec::Kind::model);
    EXPECT_EQ(spec.model, "some/file.model");
  }
  const auto spec = parse_tokenizer(json::parse(R"({"sentencepiece": {"vocabulary": 4096}})"));
  EXPECT_EQ(spec.kind, TokenizerSpec::Kind::train);
  EXPECT_EQ(spec.vocabulary, 4096);
  EXPECT_EQ(spec.type, SentencePieceType::bpe);
}

TEST(TokenizerSpec, RefusesEverythingElseAndSaysWhatIsAllowed) {
  for (const char* text :
       {R"("bytes")", "7", "null", "[]", "{}", R"({"bpe": 3})", R"({"bpe": {"vocabulary": 400}})",
        R"({"sentencepiece": {}})", R"({"sentencepiece": {"vocabulary": 0}})",
        R"({"sentencepiece": {"vocabulary": 1e30}})",
        R"({"sentencepiece": {"vocabulary": 99999999999}})",
        R"({"sentencepiece": {"vocabulary": 400, "typo": 1}})",
        R"({"sentencepiece": "a", "bpe": "b"})"}) {
    EXPECT_THAT(error_of<std::invalid_argument>([&] { parse_tokenizer(json::parse(text)); }),
                HasSubstr("a tokenizer is \"byte\""))
        << text;
  }
}

}  // namespace
}  // namespace strait
