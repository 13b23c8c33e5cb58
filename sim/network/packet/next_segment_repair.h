// Whether the repaired TcpTxBuffer::NextSeg (next_segment_repair.cpp) is the one that ns-3 calls in
// this process.
#pragma once

namespace strait::sim {

// Throws std::logic_error if the process still uses ns-3's own function: runs would then be
// quadratically slow and could crash on a closed receive window.
void require_next_segment_repair();

}  // namespace strait::sim
