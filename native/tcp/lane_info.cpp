// TCP_INFO of a lane. The kernel's own header, because the C library's stops at an older structure.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "lane.h"

namespace kvferry {

bool TcpLane::info(LaneInfo* info) {
  std::lock_guard<std::mutex> lock(send_mutex_);
  if (state_ != State::up) return false;
  tcp_info tcp = {};
  socklen_t bytes = sizeof tcp;
  // An older kernel fills in less; the rest stays zero.
  if (getsockopt(stream_.fd(), IPPROTO_TCP, TCP_INFO, &tcp, &bytes) != 0) return false;
  char name[16] = "";
  socklen_t name_bytes = sizeof name;
  getsockopt(stream_.fd(), IPPROTO_TCP, TCP_CONGESTION, name, &name_bytes);
  name[sizeof name - 1] = 0;
  info->lane = lane_index;
  info->bytes_sent = double(tcp.tcpi_bytes_sent);
  info->bytes_received = double(tcp.tcpi_bytes_received);
  // Segments that the other end has, those behind a gap included: what is acknowledged in order comes in jumps after a loss.
  info->bytes_delivered = double(tcp.tcpi_delivered) * tcp.tcpi_snd_mss;
  info->bytes_retransmitted = double(tcp.tcpi_bytes_retrans);
  info->delivery_rate = double(tcp.tcpi_delivery_rate);
  info->rtt_us = tcp.tcpi_rtt;
  info->min_rtt_us = tcp.tcpi_min_rtt;
  info->retransmits = tcp.tcpi_total_retrans;
  info->lost = tcp.tcpi_lost;
  info->congestion_window_bytes = double(tcp.tcpi_snd_cwnd) * tcp.tcpi_snd_mss;
  info->not_sent_bytes = tcp.tcpi_notsent_bytes;
  info->busy_us = double(tcp.tcpi_busy_time);
  info->receive_window_limited_us = double(tcp.tcpi_rwnd_limited);
  info->send_buffer_limited_us = double(tcp.tcpi_sndbuf_limited);
  info->congestion_control = name;
  info->unanswered_bytes = double(connection_->unanswered_bytes(*this));
  info->is_receiving = connection_->is_receiving(*this);
  LaneInfo::Socket& socket = info->socket.emplace();
  socket.rtt_variation_us = tcp.tcpi_rttvar;
  socket.path_mtu_bytes = tcp.tcpi_pmtu;
  socket.dscp = dscp_of(stream_.fd());
  socket.send_buffer_bytes = get_number(stream_.fd(), SOL_SOCKET, SO_SNDBUF);
  socket.receive_buffer_bytes = get_number(stream_.fd(), SOL_SOCKET, SO_RCVBUF);
  socket.local = Address::of_self(stream_.fd()).endpoint();
  socket.remote = Address::of_peer(stream_.fd()).endpoint();
  if (stream_.tls() != nullptr) info->tls = stream_.tls()->peer();
  return true;
}

}  // namespace kvferry
