// The host's clock is set while a process runs: an hour or a day on and back, again and again.
const now = Date.now;
const startedMs = now();
const JUMPS_MS = [0, 3_600_000, -3_600_000, 86_400_000, -86_400_000, 1_000];
Date.now = () => now() + (JUMPS_MS[Math.floor((now() - startedMs) / 100) % JUMPS_MS.length] ?? 0);
