#include "engine/checkpoint/snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace strait {
namespace {

std::vector<std::byte> to_host(Backend& ops, const Tensor& t) {
  if (!t.defined()) return {};
  std::vector<std::byte> host(t.bytes());
  ops.download(host.data(), t);
  return host;
}

bool of_another_size(const std::optional<ParameterState>& state, const Buffer& b) {
  return state && !(state->shape == b.shape);
}

}  // namespace

void Snapshot::add(std::vector<ParameterState> of_rank) {
  for (ParameterState& p : of_rank)
    if (!p.m.empty() || find(p.name) == nullptr) parameters.push_back(std::move(p));
}

const ParameterState* Snapshot::find(const std::string& name) const {
  const auto found = std::find_if(parameters.begin(), parameters.end(),
                                  [&](const ParameterState& p) { return p.name == name; });
  return found == parameters.end() ? nullptr : &*found;
}

ParameterSource Snapshot::source() const {
  return [this](const std::string& name) -> std::optional<ParameterState> {
    const ParameterState* state = find(name);
    return state == nullptr ? std::nullopt : std::optional(*state);
  };
}

std::string copy_name(const std::string& name, int copy) {
  return copy > 0 ? fmt::format("{}.copy.{}", name, copy) : name;
}

std::string name_of_copy(const Buffer& buffer, int copy) {
  return buffer.local ? copy_name(buffer.name, copy) : buffer.name;
}

int copies_that_differ(const Snapshot& snapshot) {
  int copies = 1;
  bool differ = false;
  for (const ParameterState& own : snapshot.parameters) {
    const size_t at = own.name.rfind(".copy.");
    if (at == std::string::npos || own.m.empty()) continue;  // buffers have no moments
    copies = std::max(copies, std::stoi(own.name.substr(at + 6)) + 1);
    const ParameterState* first = snapshot.find(own.name.substr(0, at));
    differ = differ || first == nullptr || first->master != own.master;
  }
  return differ ? copies : 1;
}

std::vector<ParameterState> save_parameters(Backend& ops, const ParameterList& parameters, int copy,
                                            bool differ) {
  std::vector<ParameterState> states;
  if (copy == 0 || differ)
    for (const Parameter& p : parameters.parameters())
      states.push_back({copy_name(p.name, copy), p.shape, p.master.dtype, to_host(ops, p.master),
                        to_host(ops, p.m), to_host(ops, p.v)});
  for (const Buffer& b : parameters.buffers())
    if (b.saved && (copy == 0 || b.local))
      states.push_back({name_of_copy(b, copy), b.shape, b.dtype, to_host(ops, b.value), {}, {}});
  return states;
}

void load_parameters(Backend& ops, ParameterList& parameters, int copy,
                     const ParameterSource& source, bool moments,
                     const std::function<bool(const std::string&)>& afresh) {
  // Into `target`; nullopt where it begins afresh.
  const auto give = [&](const std::string& name, const Tensor& target) {
    std::optional<ParameterState> state = source(name);
    if (!state && afresh(name)) return state;
    if (!state)
      throw std::invalid_argument(fmt::format(
          "the state to start from has no parameter {}; is it of another model, method or grid?",
          name));
    if (!(state->shape == target.shape) || state->dtype != target.dtype)
      throw std::invalid_argument(fmt::format(
          "parameter {} is {} of type {} in the state to start from, but {} of type {} here", name,
          to_string(state->shape), name_of(state->dtype), to_string(target.shape),
          name_of(target.dtype)));
    ops.upload(target, state->master.data());
    return state;
  };
  for (Buffer& b : parameters.buffers())
    // Of another size: a phase has other codebooks, say. Both ends of a boundary then begin afresh.
    if (const std::string name = name_of_copy(b, copy);
        b.saved && (moments || !b.moment) && !of_another_size(source(name), b))
      give(name, b.value);
  for (Parameter& p : parameters.parameters()) {
    const std::optional<ParameterState> state = give(p.name, p.master);
    if (!state) continue;
    if (!moments) continue;
    if (state->m.empty())
      throw std::invalid_argument(
          fmt::format("the state to start from has no moments of {}", p.name));
    // Trained by a rule without second moments: AdamW takes safe steps from nothing, not from a mean alone.
    if (p.v.defined() && state->v.empty()) continue;
    if (p.v.defined() && state->v.size() != p.v.bytes())
      throw std::invalid_argument(fmt::format(
          "the state to start from has {} bytes of second moments of {}; here they are {}",
          state->v.size(), p.name, p.v.bytes()));
    ops.upload(p.m, state->m.data());
    if (p.v.defined()) ops.upload(p.v, state->v.data());
  }
  if (parameters.flat_value().data != parameters.flat_master().data)
    ops.cast(parameters.flat_value(), parameters.flat_master());
}

}  // namespace strait
