// The machinery of the scenario tables. A Kind says how one value is read, checked, written,
// described and expressed in JSON Schema; an Object lists the fields of one struct, each declared
// once: key, member, kind, meaning. Parsing, writing, the schema, the reference and "--set" paths
// all come from these declarations.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "sim/scenario/document.h"

namespace strait::scenario {

struct ObjectInfo;
using Objects = std::vector<std::shared_ptr<const ObjectInfo>>;

// What a kind of value is, without its C++ type.
struct KindInfo {
  std::string form;    // completes "allowed: ...": `a whole number from 1 to 64`
  Json schema;         // JSON Schema of the value
  Objects objects;     // the objects the value may be, or its elements may be
  bool list = false;   // `objects` are elements
  bool table = false;  // always an object: its defaults are those of its fields
};

struct FieldInfo {
  std::string key;
  std::string help;
  KindInfo kind;
  std::optional<Json> fallback;  // the default, where it is a fixed value
  std::string absent;            // what holds otherwise: "the preset's"
  bool required = false;
  bool replayable = false;  // does not determine the record: `replay` may change it
};

struct ObjectInfo {
  std::string title;  // dotted path: "network.links"
  std::string help;
  std::vector<FieldInfo> fields;
  std::vector<std::vector<std::string>> exactly_one;  // groups of which one key is given
  std::map<std::string, std::string> foreign;         // keys of sibling alternatives -> whose
  Json conditions = Json::object();                   // further JSON Schema keywords

  const FieldInfo* find(std::string_view key) const;
  std::vector<std::string> keys() const;
  Json schema() const;
};

// Where the reader stands in the document, and the problems so far.
class Reader {
 public:
  Reader(const Document& document, const ObjectInfo* root) : document_(document), root_(root) {}

  // Enters a member for the lifetime of the scope.
  class Scope {
   public:
    Scope(Reader& reader, std::string key) : reader_(reader) {
      reader_.path_.push_back(std::move(key));
    }
    ~Scope() { reader_.path_.pop_back(); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Reader& reader_;
  };

  // Records a problem of the value here. Returns false, as readers do. Beyond 100 problems only the
  // number counts.
  bool report(std::string found, std::string allowed, std::string nearest = "");
  bool report_at(const Path& path, std::string found, std::string allowed,
                 std::string nearest = "");
  bool wrong_type(const Json& value, const std::string& form) {
    return report(describe(value), form);
  }
  // A key that `object` does not have, with the nearest one it has or the object where it belongs.
  void unknown_key(const ObjectInfo& object, const std::string& key);

  void missing_key(const FieldInfo& field);

  const std::vector<Problem>& problems() const { return problems_; }
  // No further problem will be listed: it need not be put into words.
  bool full() const { return problems_.size() > max_problems; }
  // Whether the value at the pointer, or one above or below it, has a problem: then rules on it
  // would only repeat it.
  bool troubled(const std::string& pointer) const;

 private:
  static constexpr size_t max_problems = 100;

  const Document& document_;
  const ObjectInfo* root_;
  Path path_;
  std::vector<Problem> problems_;
  std::vector<std::string> missing_;  // pointers of required keys that are not there
};

enum class WriteScope { everything, record };  // record: without the replayable fields

template <class V>
struct Kind {
  KindInfo info;
  std::function<bool(const Json&, V&, Reader&)> read;  // false after reporting
  std::function<Json(const V&, WriteScope)> write;
};

// What a field may say beside its kind.
struct Note {
  std::string absent;  // set where the default is no fixed value
  bool required = false;
  bool replayable = false;
};

template <class T>
struct is_optional : std::false_type {};
template <class T>
struct is_optional<std::optional<T>> : std::true_type {};

template <class T>
class Object {
 public:
  // `sample` is the object whose values are the defaults.
  Object(std::string title, std::string help, T sample = T())
      : info_(std::make_shared<ObjectInfo>()), sample_(std::move(sample)) {
    info_->title = std::move(title);
    info_->help = std::move(help);
  }

  // Declares a field. `member` is a member pointer or a callable T& -> V& (or -> std::optional<V>&,
  // absent when empty).
  template <class Member, class V>
  Object& field(std::string key, Member member, Kind<V> kind, std::string help, Note note = {}) {
    using Slot = std::remove_cvref_t<std::invoke_result_t<Member, T&>>;
    Access access;
    access.read = [member, kind](const Json& json, T& object, Reader& reader) {
      auto& slot = std::invoke(member, object);
      if constexpr (is_optional<Slot>::value) {
        V value{};
        if (kind.read(json, value, reader)) slot = value;
      } else {
        kind.read(json, slot, reader);
      }
    };
    access.write = [member, kind](const T& object, WriteScope scope) -> std::optional<Json> {
      const auto& slot = std::invoke(member, object);
      if constexpr (is_optional<Slot>::value) {
        if (!slot) return std::nullopt;
        return kind.write(*slot, scope);
      } else {
        return kind.write(slot, scope);
      }
    };
    FieldInfo info{std::move(key), std::move(help), kind.info,      std::nullopt,
                   note.absent,    note.required,   note.replayable};
    if (note.absent.empty() && !note.required && !kind.info.table)
      info.fallback = access.write(sample_, WriteScope::everything);
    info_->fields.push_back(std::move(info));
    access_.push_back(std::move(access));
    return *this;
  }

  // Called after the field declared last has been read from a document.
  Object& then(std::function<void(T&)> action) {
    access_.back().then = std::move(action);
    return *this;
  }
  // The field declared last is written only where this holds.
  Object& present_if(std::function<bool(const T&)> condition) {
    access_.back().present = std::move(condition);
    info_->fields.back().fallback.reset();
    return *this;
  }
  Object& exactly_one(std::vector<std::string> keys) {
    info_->exactly_one.push_back(std::move(keys));
    return *this;
  }
  // Puts a key in front whose only value is `constant`; what it says is read by the caller.
  void prepend_constant(FieldInfo field, const Json& constant) {
    info_->fields.insert(info_->fields.begin(), std::move(field));
    Access access;
    access.read = [](const Json&, T&, Reader&) {};
    access.write = [constant](const T&, WriteScope) { return std::optional<Json>(constant); };
    access_.insert(access_.begin(), std::move(access));
  }
  // JSON Schema keywords that the fields alone do not say.
  Object& conditions(Json keywords) {
    info_->conditions = std::move(keywords);
    return *this;
  }

  // Reads over `object`: keys that are absent leave what is there.
  bool read(const Json& json, T& object, Reader& reader) const {
    if (!json.is_object())
      return reader.wrong_type(
          json, fmt::format("an object with the keys {}", fmt::join(info_->keys(), ", ")));
    const size_t before = reader.problems().size();
    for (const auto& [key, value] : json.items())
      if (info_->find(key) == nullptr) reader.unknown_key(*info_, key);
    for (const auto& group : info_->exactly_one) check_group(json, group, reader);
    for (size_t i = 0; i < access_.size(); ++i) {
      const FieldInfo& info = info_->fields[i];
      const auto member = json.find(info.key);
      if (member == json.end()) {
        if (info.required) reader.missing_key(info);
        continue;
      }
      const Reader::Scope scope(reader, info.key);
      access_[i].read(*member, object, reader);
      if (access_[i].then) access_[i].then(object);
    }
    return reader.problems().size() == before;
  }

  Json write(const T& object, WriteScope scope) const {
    Json json = Json::object();
    for (size_t i = 0; i < access_.size(); ++i) {
      if (scope == WriteScope::record && info_->fields[i].replayable) continue;
      if (access_[i].present && !access_[i].present(object)) continue;
      if (auto value = access_[i].write(object, scope))
        json[info_->fields[i].key] = std::move(*value);
    }
    return json;
  }

  const std::shared_ptr<ObjectInfo>& info() const { return info_; }

  Kind<T> kind() const {
    KindInfo info{fmt::format("an object with the keys {}", fmt::join(info_->keys(), ", ")),
                  info_->schema(),
                  {info_},
                  false,
                  true};
    return {
        std::move(info),
        [table = *this](const Json& json, T& value, Reader& reader) {
          return table.read(json, value, reader);
        },
        [table = *this](const T& value, WriteScope scope) { return table.write(value, scope); }};
  }

 private:
  struct Access {
    std::function<void(const Json&, T&, Reader&)> read;
    std::function<std::optional<Json>(const T&, WriteScope)> write;
    std::function<void(T&)> then;
    std::function<bool(const T&)> present;
  };

  static void check_group(const Json& json, const std::vector<std::string>& group, Reader& reader) {
    std::vector<std::string> given;
    for (const std::string& key : group)
      if (json.contains(key)) given.push_back(key);
    if (given.size() == 1) return;
    reader.report(
        given.empty() ? "none of them" : fmt::format("{} together", fmt::join(given, " and ")),
        fmt::format("exactly one of {}", fmt::join(group, ", ")));
  }

  std::shared_ptr<ObjectInfo> info_;
  T sample_;
  std::vector<Access> access_;
};

}  // namespace strait::scenario
