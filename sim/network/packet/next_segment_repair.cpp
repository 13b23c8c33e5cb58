// SPDX-License-Identifier: GPL-2.0-only
//
// A replacement for ns3::TcpTxBuffer::NextSeg, derived from ns-3
// (src/internet/model/tcp-tx-buffer.cc, copyright its authors) and therefore, unlike the rest of
// Strait, under the GNU General Public License version 2 only. Defined in our executable it takes
// the place of the library's function (symbol interposition); ns-3 itself is not modified.
//
// The decision is that of RFC 6675, section 4, NextSeg(). Two things differ from ns-3 3.37:
//   1. the scan over everything in flight, made there for each segment sent, stops when no lost
//   segment can follow;
//   2. new data need a receive window strictly larger than what is in flight; with `<=` an empty
//   segment is sent and the
//      process crashes.
#include "sim/network/packet/next_segment_repair.h"

#include <dlfcn.h>
#include <ns3/packet.h>
#include <ns3/tcp-tx-buffer.h>

#include <algorithm>
#include <stdexcept>

namespace ns3 {

bool TcpTxBuffer::NextSeg(SequenceNumber32* seq, SequenceNumber32* seqHigh, bool isRecovery) const {
  // Rule 1: the first lost segment that was not yet sent again. Rule 3's candidate is met on the
  // way.
  bool has_candidate = false;
  SequenceNumber32 candidate;
  SequenceNumber32 begin = m_firstByteSeq;
  uint32_t lost_ahead = m_lostOut;
  for (const TcpTxItem* item : m_sentList) {
    if (lost_ahead == 0 && (has_candidate || !isRecovery)) break;
    const uint32_t size = item->m_packet->GetSize();
    if (!item->m_retrans && !item->m_sacked) {
      if (item->m_lost) {
        *seq = begin;
        *seqHigh = begin + m_segmentSize;
        return true;
      }
      if (isRecovery && !has_candidate) {
        has_candidate = true;
        candidate = begin;
      }
    }
    if (item->m_lost) lost_ahead -= std::min(lost_ahead, size);
    begin += size;
  }
  // Rule 2: new data, as far as the receiver's window allows.
  if (SizeFromSequence(m_firstByteSeq + m_sentSize) > 0) {
    const uint32_t window = m_rWndCallback();
    if (m_sentSize >= window) return false;
    *seq = m_firstByteSeq + m_sentSize;
    *seqHigh = *seq + std::min(m_segmentSize, window - m_sentSize);
    return true;
  }
  // Rule 3: during recovery, the first segment that nobody has reported yet.
  if (!has_candidate) return false;
  *seq = candidate;
  *seqHigh = candidate + m_segmentSize;
  return true;
}

}  // namespace ns3

namespace strait::sim {

void require_next_segment_repair() {
  constexpr const char* symbol = "_ZNK3ns311TcpTxBuffer7NextSegEPNS_14SequenceNumberIjiEES3_b";
  const void* used = dlsym(RTLD_DEFAULT, symbol);
  Dl_info theirs{}, ours{};
  const bool known = used && dladdr(used, &theirs) &&
                     dladdr(reinterpret_cast<const void*>(&require_next_segment_repair), &ours);
  if (!known || theirs.dli_fbase != ours.dli_fbase)
    throw std::logic_error(
        "packet network: ns-3's TcpTxBuffer::NextSeg was not replaced by the repaired one; link "
        "strait::packet into the "
        "executable, not into a library that it loads");
}

}  // namespace strait::sim
