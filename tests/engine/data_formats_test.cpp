// Readers of the corpora's file formats on files made here, sound and damaged; the text clean-up;
// SHA-256.
#include <gmock/gmock.h>

#include <array>
#include <map>

#include "engine/data/decompress.h"
#include "engine/data/markup.h"
#include "engine/data/rdata.h"
#include "engine/data/sword.h"
#include "engine/data/tar.h"
#include "tests/engine/data_support.h"

namespace strait {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Inflate, StopsAtTheEndOfTheStreamAndSaysWhereThatIs) {
  const std::string stream = zlib_compressed("some text");
  const auto result = inflate_stream(stream + "more", "f");
  EXPECT_EQ(result.text, "some text");
  EXPECT_EQ(result.consumed, stream.size());
}

TEST(Inflate, RefusesEveryTruncationAndTooMuchOutput) {
  const std::string stream = zlib_compressed(std::string(1000, 'a') + "end");
  for (size_t length = 0; length < stream.size(); ++length) {
    EXPECT_THROW(inflate_stream(stream.substr(0, length), "f"), std::runtime_error) << length;
  }
  EXPECT_THAT(error_of<std::runtime_error>([&] { inflate_stream(stream, "bomb.gz", 500); }),
              HasSubstr("bomb.gz"));
}

// LZW as Unix compress writes it: the width grows as the table fills, a group has eight codes, and
// a full table is cleared if `clear` is set.
class LzwWriter {
 public:
  LzwWriter(unsigned max_width, bool clear) : max_width_(max_width), clear_(clear) { restart(); }

  std::string compress(const std::string& text) {
    std::string current;
    for (char c : text) {
      if (table_.count(current + c)) {
        current += c;
        continue;
      }
      put(table_[current]);
      if (next_ < (1u << max_width_)) table_[current + c] = next_++;
      if (clear_ && next_ == (1u << max_width_)) {
        put(256);
        end_group();
        restart();
      }
      current = std::string(1, c);
    }
    if (!current.empty()) put(table_[current]);
    return finish();
  }

 private:
  void restart() {
    table_.clear();
    for (int c = 0; c < 256; ++c)
      table_[std::string(1, static_cast<char>(c))] = static_cast<unsigned>(c);
    width_ = 9, next_ = 257, decoder_next_ = 257, first_ = true;
  }
  void put(unsigned code) {
    for (unsigned i = 0; i < width_; ++i) bits_.push_back(code >> i & 1u);
    if (!first_ && decoder_next_ < (1u << max_width_))
      ++decoder_next_;  // the decoder adds one behind
    first_ = false;
    if (code != 256 && decoder_next_ == (1u << width_) && width_ < max_width_) {
      end_group();
      ++width_;
    }
  }
  void end_group() {
    while ((bits_.size() - group_start_) % (width_ * 8) != 0) bits_.push_back(false);
    group_start_ = bits_.size();
  }
  std::string finish() {
    std::string out = {'\x1f', '\x9d', static_cast<char>(0x80 | max_width_)};
    while (bits_.size() % 8 != 0) bits_.push_back(false);
    for (size_t i = 0; i < bits_.size(); i += 8) {
      unsigned byte = 0;
      for (size_t b = 0; b < 8; ++b) byte |= unsigned{bits_[i + b]} << b;
      out += static_cast<char>(byte);
    }
    return out;
  }

  unsigned max_width_;
  bool clear_;
  std::map<std::string, unsigned> table_;
  std::vector<bool> bits_;
  size_t group_start_ = 0;
  unsigned width_ = 9, next_ = 257, decoder_next_ = 257;
  bool first_ = true;
};

std::string lzw(const std::string& text, unsigned max_width, bool clear = false) {
  return LzwWriter(max_width, clear).compress(text);
}

TEST(Uncompress, UndoesLzwForEveryCodeWidthWithAndWithoutClearing) {
  std::string text =
      "TOBEORNOTTOBEORTOBEORNOT" + std::string(3000, 'a');  // runs use codes not yet complete
  for (int i = 0; i < 30000; ++i) text += std::to_string(i * i % 7919) + (i % 5 ? " " : "\n");
  for (unsigned width : {9u, 10u, 12u, 16u}) {
    EXPECT_TRUE(uncompress(lzw(text, width), "f") == text) << width;
    EXPECT_TRUE(uncompress(lzw(text, width, true), "f") == text) << width;
  }
  EXPECT_EQ(uncompress(lzw("", 16), "f"), "");
}

TEST(Uncompress, NeverCrashesOnDamage) {
  const std::string good =
      lzw("the quick brown fox jumps over the lazy dog, the quick brown fox", 16);
  for (size_t at = 0; at < good.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      try {
        EXPECT_LE(uncompress(bad, "f").size(), 100'000u);
      } catch (const std::runtime_error&) {  // saying so is right, too
      }
    }
  }
  EXPECT_THROW(uncompress("\x1f\x8b", "f"), std::runtime_error);
}

TEST(RData, ReadsEachCharacterVectorAsLines) {
  const std::string database = r_chunk({"EMMA", "", "by Jane"}) + r_chunk({"Persuasion"});
  EXPECT_THAT(read_r_character_vectors(database, "f"),
              ElementsAre("EMMA\n\nby Jane\n", "Persuasion\n"));
}

TEST(RData, LeavesOutMissingAndNonAsciiStringsAndOtherObjects) {
  const std::string header =
      "X\n" + big_endian(2) + big_endian(0x00040201) + big_endian(0x00020300);
  const std::string strings = header + big_endian(16) + big_endian(3) + big_endian(9) +
                              big_endian(UINT32_MAX) + big_endian(0x00008009) + big_endian(2) +
                              "\xC2\xA3" + big_endian(0x00040009) + big_endian(2) + "ok";
  const std::string integers = header + big_endian(13) + big_endian(1) + big_endian(7);
  std::string database;
  for (const auto& object : {strings, integers}) {
    database += big_endian(static_cast<uint32_t>(object.size())) + zlib_compressed(object);
  }
  EXPECT_THAT(read_r_character_vectors(database, "f"), ElementsAre("ok\n"));
}

TEST(RData, RefusesDamageWithFileAndOffset) {
  const std::string good = r_chunk({"a line"});
  const auto error_for = [](const std::string& database) {
    return error_of<std::runtime_error>([&] { read_r_character_vectors(database, "Rdata.rdb"); });
  };
  EXPECT_THAT(error_for(good + "\x01"),
              HasSubstr("Rdata.rdb: chunk at byte " + std::to_string(good.size())));
  std::string wrong_length = good;
  wrong_length[3] = static_cast<char>(wrong_length[3] + 1);
  EXPECT_THAT(error_for(wrong_length), HasSubstr("not as long as it says"));
  const std::string greedy = "X\n" + big_endian(2) + big_endian(0) + big_endian(0) +
                             big_endian(16) + big_endian(0x7fffffff);
  EXPECT_THAT(error_for(big_endian(static_cast<uint32_t>(greedy.size())) + zlib_compressed(greedy)),
              HasSubstr("more strings than bytes"));
  const std::string foreign = "A\n14 bytes long";
  EXPECT_THAT(
      error_for(big_endian(static_cast<uint32_t>(foreign.size())) + zlib_compressed(foreign)),
      HasSubstr("XDR"));
}

TEST(Sword, ReadsBlocksThroughTheIndexAndRefusesOnesOutside) {
  const std::string one = zlib_compressed("block one"), two = zlib_compressed("block two");
  const auto size = [](const std::string& text) { return static_cast<uint32_t>(text.size()); };
  const auto index = raw<uint32_t>({0, size(one), 9, 0, 0, 0, size(one), size(two), 9});
  EXPECT_THAT(read_sword_blocks(index, one + two, "ot.bzz"), ElementsAre("block one", "block two"));
  const auto outside = raw<uint32_t>({UINT32_MAX, UINT32_MAX, 9});
  EXPECT_THAT(error_of<std::runtime_error>([&] { read_sword_blocks(outside, one, "ot.bzz"); }),
              HasSubstr("ot.bzz: block 0"));
  EXPECT_THROW(read_sword_blocks(index.substr(1), one, "ot.bzz"), std::runtime_error);
}

TEST(KingJames, BecomesBooksWithoutVerseNumbers) {
  const auto books = read_king_james(
      "header" + lzw("Title.\nGe1:1 In the beginning\nGe1:2 And\nGe2:1 Thus\n1Sam1:1 Now\n", 16),
      "f");
  ASSERT_EQ(books.size(), 2u);
  EXPECT_EQ(books[0].name, "Ge");
  EXPECT_EQ(books[0].text, "In the beginning\nAnd\n\nThus\n");
  EXPECT_EQ(books[1].name, "1Sam");
}

std::string tar_entry(const std::string& name, char type, const std::string& content) {
  std::string header(512, '\0');
  header.replace(0, name.size(), name);
  std::array<char, 13> digits;
  std::snprintf(digits.data(), digits.size(), "%011o", static_cast<unsigned>(content.size()));
  header.replace(124, 11, digits.data());
  header[156] = type;
  header.replace(257, 6, std::string("ustar\0", 6));
  return header + content + std::string((512 - content.size() % 512) % 512, '\0');
}

TEST(Tar, ListsFilesWithShortGnuAndPaxNames) {
  const std::string long_name = "deep/" + std::string(150, 'd') + "/file.c";
  const std::string record = "path=" + long_name + "\n";
  const std::string archive =
      tar_entry("dir/", '5', "") + tar_entry("dir/a.c", '0', "int a;") +
      tar_entry("././@LongLink", 'L', long_name + '\0') + tar_entry("cut", '0', "gnu") +
      tar_entry("x", 'x', std::to_string(record.size() + 4) + " " + record) +
      tar_entry("cut", '0', std::string(600, 'p')) + tar_entry("link", '2', "") +
      tar_entry("b.c", '0', "") + std::string(1024, '\0');
  const auto files = list_tar(archive, "f");
  ASSERT_EQ(files.size(), 4u);
  EXPECT_EQ(files[0].name, "dir/a.c");
  EXPECT_EQ(files[0].content, "int a;");
  EXPECT_EQ(files[1].name, long_name);
  EXPECT_EQ(files[2].name, long_name);
  EXPECT_EQ(files[2].content, std::string(600, 'p'));
  EXPECT_EQ(files[3].name, "b.c");
}

TEST(Tar, RefusesTruncationAndSizesBeyondTheFile) {
  const std::string archive = tar_entry("a.c", '0', "int a;");
  EXPECT_THAT(error_of<std::runtime_error>([&] { list_tar(archive, "x.tar"); }),
              HasSubstr("x.tar: a truncated"));
  std::string huge = archive;
  huge.replace(124, 11, "77777777777");
  EXPECT_THAT(error_of<std::runtime_error>([&] { list_tar(huge, "x.tar"); }), HasSubstr("byte 0"));
}

TEST(Utf8, IsKeptWhereValidAndReadAsLatin1WhereNot) {
  EXPECT_EQ(repair_utf8("na\xC3\xAFve \xE2\x80\x9Cq\xE2\x80\x9D \xF0\x9F\x98\x80"),
            "na\xC3\xAFve \xE2\x80\x9Cq\xE2\x80\x9D \xF0\x9F\x98\x80");
  EXPECT_EQ(repair_utf8("caf\xE9"), "caf\xC3\xA9");
  EXPECT_EQ(repair_utf8("\xC0\x80"), "\xC3\x80\xC2\x80");              // overlong
  EXPECT_EQ(repair_utf8("\xED\xA0\x80"), "\xC3\xAD\xC2\xA0\xC2\x80");  // a surrogate
  EXPECT_EQ(repair_utf8("\xEF\xBB\xBF"
                        "a\r\nb\x07\tc\x7F"),
            "a\nb\tc");
}

TEST(Markup, OsisBecomesRunningText) {
  EXPECT_EQ(strip_osis("<title>The Book</title> <div type=\"x-p\"/><chapter n=\"1\"/><w "
                       "lemma=\"s\">Yahweh</w><note>a "
                       "<b>note</b></note><w>called</w>,<note>x</note> &amp; said.<l>line</l>"),
            "The Book\n\nYahweh called, & said.\nline\n");
  EXPECT_EQ(strip_osis("cut <note>off"), "cut\n");
}

TEST(Markup, DictionariesLoseTheirApparatus) {
  EXPECT_EQ(strip_dictionary(
                "Abet \\A*bet\"\\, v. t.\n   To {incite}.\n   [1913 Webster]\n   [a] and [b]\n"),
            "Abet, v. t.\n   To incite.\n   [a] and [b]\n");
}

TEST(Markup, OverstruckCharactersBecomeTheLast) {
  EXPECT_EQ(strip_overstrike("_\bA_\bB c\bc\n\bd \xC3\xA9\b\xC3\xA9"), "AB c\nd \xC3\xA9");
}

TEST(CutText, PiecesJoinToTheTextAndStartAtUnindentedLines) {
  std::string text;
  for (int i = 0; i < 200; ++i)
    text += (i % 3 ? "   indented\n" : i % 2 ? "\nheadword\n" : "word\n");
  std::string joined;
  for (const auto piece : cut_text(text, 100)) {
    EXPECT_NE(piece.front(), ' ');
    joined += piece;
  }
  EXPECT_EQ(joined, text);
  EXPECT_GT(cut_text(text, 100).size(), 10u);
  EXPECT_EQ(cut_text(std::string(500, 'x'), 100).size(), 1u) << "a text of one line cannot be cut";
}

}  // namespace
}  // namespace strait
