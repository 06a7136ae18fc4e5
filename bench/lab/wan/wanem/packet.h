// A packet as the TUN device hands it over: up to 64 KiB of TCP in one, which a wire would carry as several.
#pragma once
#include <linux/virtio_net.h>
#include <stdint.h>
#include <stdlib.h>

#define VNET ((uint32_t)sizeof(struct virtio_net_hdr))
enum { MS = 1000000 };           // nanoseconds

typedef struct Packet {
  uint64_t due, order, arrived;  // ns; among packets that are due at once; ns
  uint32_t bytes, wire_bytes;    // here, with VNET; on a wire, every segment with its own header and without VNET
  uint16_t segments, header;     // header: IP and TCP together, bytes; 0 where the packet cannot be cut
  uint8_t data[];                // virtio_net_hdr, then the IP packet
} Packet;

// Prints why, and ends the process.
_Noreturn void die(const char *what);
void *allocated(void *memory);   // or dies

uint64_t now_ns(void);

// Fills in wire_bytes, segments and header from the packet's own headers.
void packet_measure(Packet *packet);

// A packet of its own from segments [first, first + count).
Packet *packet_cut(const Packet *packet, uint32_t first, uint32_t count);
