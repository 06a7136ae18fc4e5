// One direction of the link: TUN in -> drop-tail queue -> token bucket at `rate` -> loss, reordering, corruption -> `delay` line -> TUN out.
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "packet.h"

#define DEVICE "wan0"

enum { RATE, DELAY, JITTER, QUEUE, BURST, LOSS, GE_P, GE_R, GE_LOSS, REORDER, REORDER_MS, CORRUPT, DOWN, HOLD, TRIM, KEYS };

typedef struct {
  uint64_t packets, bytes;       // delivered, counted as on a wire
  uint64_t drop_loss, drop_queue, drop_down, drop_out;
  uint64_t loss_runs, reordered, corrupted, reads;
  uint64_t queue_max_ns, late_max_ns, late_sum_ns, late_count;
} Counters;

typedef struct {
  const char *name;              // "ab" or "ba"
  int in, out;                   // TUN devices
  _Atomic double value[KEYS];    // written by the main thread, read by the path's own
  Packet **queue, **heap;        // waiting for the bottleneck (a ring); on the wire (a heap, the earliest due on top)
  uint64_t head, tail, queued_bytes;
  uint32_t flying;
  uint64_t order, link_free, last_due, random;
  bool bad, losing;              // Gilbert-Elliott state; the last packet was lost
  Counters counters;
  pthread_mutex_t lock;          // over counters, queued_bytes and flying, which a report reads
} Path;

void path_make(Path *path, const char *name, uint64_t seed);
// Begins to carry packets from one TUN device to the other, in a thread of its own.
void path_start(Path *path, int in, int out);

double path_get(Path *path, int key);
// WORD is KEY=VALUE. Returns NULL, or what is wrong with it.
const char *path_set(Path *path, const char *word);
