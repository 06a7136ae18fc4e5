#include "packet.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

void die(const char *what) {
  perror(what);
  exit(1);
}

void *allocated(void *memory) {
  if (!memory) die("malloc");
  return memory;
}

uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void packet_measure(Packet *packet) {
  const struct virtio_net_hdr *offload = (const void *)packet->data;
  const uint8_t *ip = packet->data + VNET;
  uint32_t bytes = packet->bytes - VNET, ip_header = 0;
  packet->segments = 1, packet->header = 0, packet->wire_bytes = bytes;
  if (bytes >= 20 && ip[0] >> 4 == 4 && ip[9] == IPPROTO_TCP) ip_header = (ip[0] & 15u) * 4;
  if (bytes >= 40 && ip[0] >> 4 == 6 && ip[6] == IPPROTO_TCP) ip_header = 40;
  if (!ip_header || bytes < ip_header + 20) return;
  uint32_t header = ip_header + (ip[ip_header + 12] >> 4) * 4u;
  if (header >= bytes) return;
  packet->header = (uint16_t)header;
  if (offload->gso_type == VIRTIO_NET_HDR_GSO_NONE || !offload->gso_size) return;
  packet->segments = (uint16_t)((bytes - header + offload->gso_size - 1) / offload->gso_size);
  packet->wire_bytes = bytes + (packet->segments - 1u) * header;
}

static uint32_t get16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }
static void put16(uint8_t *at, uint32_t value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }
static uint32_t fold(uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

// What IP says of a packet's length, for one whose IP and TCP headers are followed by `payload` bytes.
static void put_lengths(uint8_t *ip, uint32_t ip_header, uint32_t header, uint32_t payload, uint32_t first) {
  if (ip[0] >> 4 != 4) {
    put16(ip + 4, header - ip_header + payload);
    return;
  }
  uint32_t sum = 0;
  put16(ip + 2, header + payload);
  put16(ip + 4, get16(ip + 4) + first);          // identification
  put16(ip + 10, 0);
  for (uint32_t at = 0; at < ip_header; at += 2) sum += get16(ip + at);
  put16(ip + 10, ~fold(sum));
}

Packet *packet_cut(const Packet *packet, uint32_t first, uint32_t count) {
  uint32_t gso = ((const struct virtio_net_hdr *)(const void *)packet->data)->gso_size;
  uint32_t header = packet->header, all = packet->bytes - VNET - header;
  uint32_t from = first * gso, payload = first + count == packet->segments ? all - from : count * gso;
  Packet *piece = allocated(malloc(sizeof *piece + VNET + header + payload));
  *piece = *packet;
  piece->bytes = VNET + header + payload;
  memcpy(piece->data, packet->data, VNET + header);
  memcpy(piece->data + VNET + header, packet->data + VNET + header + from, payload);
  struct virtio_net_hdr *offload = (void *)piece->data;
  uint8_t *ip = piece->data + VNET;
  uint32_t ip_header = ip[0] >> 4 == 4 ? (ip[0] & 15u) * 4 : 40;
  put_lengths(ip, ip_header, header, payload, first);
  uint8_t *tcp = ip + ip_header;
  uint32_t sequence = (get16(tcp + 4) << 16 | get16(tcp + 6)) + from;
  put16(tcp + 4, sequence >> 16), put16(tcp + 6, sequence);
  if (first + count < packet->segments) tcp[13] &= (uint8_t)~0x09;  // FIN and PSH belong to the last segment
  if (first) tcp[13] &= (uint8_t)~0x80;                             // CWR to the first
  // The checksum is left to the device: its field holds the sum of the pseudo-header, with the TCP length in it.
  put16(tcp + 16, fold(get16(tcp + 16) + (0xffff & ~(header - ip_header + all)) + header - ip_header + payload));
  offload->hdr_len = packet->header;
  if (payload <= gso) offload->gso_type = VIRTIO_NET_HDR_GSO_NONE, offload->gso_size = 0;
  packet_measure(piece);
  return piece;
}
