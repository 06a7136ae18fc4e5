/** The doctor's checks. Method: hosts made of a few files, from a container with 64 MiB of shared memory to a machine with four GPUs. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { codecChecks } from "../../transport/cli/checks/codecs.ts";
import { deviceChecks } from "../../transport/cli/checks/devices.ts";
import { type Check, type Host, thisHost } from "../../transport/cli/checks/host.ts";
import { memoryChecks } from "../../transport/cli/checks/memory.ts";
import { networkChecks } from "../../transport/cli/checks/network.ts";
import { peerChecks } from "../../transport/cli/checks/peers.ts";
import { processChecks } from "../../transport/cli/checks/process.ts";
import { tlsChecks } from "../../transport/cli/checks/tls.ts";
import { lz4Problem } from "../../transport/cli/codec/lz4.ts";
import { configOf } from "../../transport/config.ts";
import type { NativeCoders } from "../../transport/native-codec.ts";
import { native } from "../../transport/native.ts";
import { daysFromNow } from "../../transport/tls/issue.ts";
import { tlsMaterial } from "../link/certificates.ts";

const MiB = 2 ** 20;

function host(
  files: Readonly<Record<string, string>>,
  more: { freeBytes?: number; programs?: Readonly<Record<string, string>> } = {},
): Host {
  return {
    platform: "linux",
    read: (path) => files[path],
    list: (path) => {
      const inside = Object.keys(files).filter((file) => file.startsWith(`${path}/`));
      return [...new Set(inside.map((file) => file.slice(path.length + 1).split("/")[0]!))];
    },
    space: () => (more.freeBytes === undefined ? undefined : { bytes: more.freeBytes, freeBytes: more.freeBytes }),
    run: (program) => more.programs?.[program],
  };
}

function statusOf(checks: readonly Check[], id: string): string {
  const check = checks.find((candidate) => candidate.id === id);
  assert.ok(check, id);
  return check.status;
}

test("a container with 64 MiB of shared memory: FAIL before the pool dies of it", () => {
  const checks = memoryChecks(host({}, { freeBytes: 64 * MiB }), configOf({ pool: { directory: "/dev/shm" } }));
  assert.equal(statusOf(checks, "pool_space"), "FAIL");
  assert.equal(statusOf(memoryChecks(host({}, { freeBytes: 64 * MiB }), configOf({})), "pool_space"), "WARN");
  assert.match(checks.find(({ id }) => id === "pool_space")!.remedy, /--shm-size/);
  assert.equal(statusOf(memoryChecks(host({}, { freeBytes: 64 * MiB }), configOf({ pool: { bytes: "32MiB" } })), "pool_space"), "OK");
  assert.equal(statusOf(memoryChecks(host({}, { freeBytes: 33 * MiB }), configOf({ pool: { bytes: "32MiB" } })), "pool_space"), "WARN");
});

test("a container's memory limit below the pool is a FAIL", () => {
  const files = { "/sys/fs/cgroup/memory.max": String(512 * MiB), "/proc/meminfo": "MemTotal: 16384000 kB" };
  assert.equal(statusOf(memoryChecks(host(files, { freeBytes: 8192 * MiB }), configOf({})), "memory_limit"), "FAIL");
  assert.equal(
    statusOf(memoryChecks(host({ ...files, "/sys/fs/cgroup/memory.max": "max" }, { freeBytes: 8192 * MiB }), configOf({})), "memory_limit"),
    "OK",
  );
});

test("huge pages: demanded and absent is a FAIL, wished for and absent is not", () => {
  const files = { "/proc/meminfo": "HugePages_Free: 0\nHugepagesize: 2048 kB" };
  assert.equal(statusOf(memoryChecks(host(files), configOf({ pool: { hugePages: "on" } })), "huge_pages"), "FAIL");
  assert.equal(statusOf(memoryChecks(host(files), configOf({})), "huge_pages"), "OK");
  const reserved = { "/proc/meminfo": "HugePages_Free: 512\nHugepagesize: 2048 kB" };
  assert.equal(statusOf(memoryChecks(host(reserved), configOf({ pool: { hugePages: "on" } })), "huge_pages"), "OK");
});

test("memlock matters only where there is an RDMA device", () => {
  const limits = {
    "/proc/self/limits": "Limit  Soft Limit  Hard Limit  Units\nMax locked memory         65536                65536                bytes",
  };
  assert.equal(statusOf(memoryChecks(host(limits), configOf({})), "memlock"), "OK");
  assert.equal(statusOf(memoryChecks(host({ ...limits, "/sys/class/infiniband/mlx5_0/node_type": "1" }), configOf({})), "memlock"), "WARN");
});

test("socket buffers are judged by the bandwidth-delay product", () => {
  const files = {
    "/proc/sys/net/ipv4/tcp_rmem": "4096 131072 6291456",
    "/proc/sys/net/ipv4/tcp_wmem": "4096 16384 4194304",
    "/proc/sys/net/ipv4/tcp_congestion_control": "cubic",
    "/proc/sys/net/ipv4/tcp_available_congestion_control": "reno cubic",
    "/proc/sys/net/ipv4/tcp_allowed_congestion_control": "reno cubic",
    "/proc/sys/net/ipv4/tcp_slow_start_after_idle": "1",
  };
  const near = networkChecks(host(files), configOf({}), { rttMs: 0.2, rateBytesPerSecond: 1.25e9 });
  assert.deepEqual(
    near.filter(({ status }) => status !== "OK").map(({ id }) => id),
    ["congestion_control"],
  );
  const remedyOf = (checks: readonly Check[]): string => checks.find(({ id }) => id === "congestion_control")!.remedy;
  assert.match(
    remedyOf(near),
    /modprobe tcp_bbr; .*="reno cubic bbr"\. At 1 Gbit.s, 50 ms and a loss of 0\.1 % .* BBR carries about 999 Mbit.s, one of cubic 8\.79 Mbit.s /,
  );
  const far = networkChecks(host(files), configOf({}), { rttMs: 50, rateBytesPerSecond: 1.25e9 });
  for (const id of ["receive_buffers", "send_buffers", "congestion_control", "slow_start_after_idle"])
    assert.equal(statusOf(far, id), "WARN", id);
  assert.match(far.find(({ id }) => id === "receive_buffers")!.remedy, /tcp_rmem="4096 131072 33554432"/);
  assert.match(remedyOf(far), /At 10 Gbit.s, 50 ms .* about 9\.99 Gbit.s, one of cubic 8\.79 /);
  const long = { rttMs: 50, rateBytesPerSecond: 125_000_000 };
  const offered = { ...files, "/proc/sys/net/ipv4/tcp_available_congestion_control": "reno cubic bbr" };
  assert.match(remedyOf(networkChecks(host(offered), configOf({}), long)), /^sysctl -w/, "the module is there");
  const allowed = { ...offered, "/proc/sys/net/ipv4/tcp_allowed_congestion_control": "reno cubic bbr" };
  assert.equal(statusOf(networkChecks(host(allowed), configOf({}), long), "congestion_control"), "OK", "a node takes it by itself");
  assert.match(remedyOf(networkChecks(host(allowed), configOf({ congestionControl: "cubic" }), long)), /^Leave congestionControl empty/);
  const wanted = networkChecks(host(files), configOf({ congestionControl: "bbr" }), { rttMs: 1, rateBytesPerSecond: 1e9 });
  assert.match(wanted.find(({ id }) => id === "congestion_control")!.remedy, /modprobe tcp_bbr/);
});

test("devices: none is OK, RDMA without an active port is not", () => {
  assert.deepEqual([...new Set(deviceChecks(host({}), undefined).map(({ status }) => status))], ["OK"]);
  const port = "/sys/class/infiniband/mlx5_0/ports/1";
  const gids = {
    [`${port}/gids/0`]: "fe80:0000:0000:0000:0000:0000:0000:0001",
    [`${port}/gid_attrs/types/0`]: "RoCE v2",
    [`${port}/gids/1`]: "0000:0000:0000:0000:0000:0000:0000:0000",
  };
  const up = deviceChecks(host({ ...gids, [`${port}/state`]: "4: ACTIVE", [`${port}/rate`]: "400 Gb/sec (4X NDR)" }), undefined)[0]!;
  assert.equal(up.status, "OK");
  assert.match(up.found, /mlx5_0\/1 ACTIVE 400 Gb\/sec.*0=fe80:.* RoCE v2/);
  assert.equal(deviceChecks(host({ ...gids, [`${port}/state`]: "1: DOWN" }), undefined)[0]!.status, "WARN");
  const gpu = deviceChecks(
    host(
      { "/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue" },
      { programs: { nvcc: "release 12.4, V12" } },
    ),
    undefined,
  );
  assert.deepEqual(
    gpu.slice(1, 3).map(({ found }) => found),
    ["NVIDIA 550.54.15", "CUDA 12.4"],
  );
});

test("GPU codecs: none without a driver is OK, a GPU that a build has no kernels for is not", () => {
  const nvcomp = { version: "", problem: "libnvcomp.so is not installed" };
  const gpus = [{ name: "NVIDIA H200", capability: "9.0", multiprocessors: 132, bytes: 2 ** 37 }];
  const codecs = (problem: string, found: typeof gpus) =>
    deviceChecks(host({}), { problem, version: 13_000, kernelBytes: 0, nvcomp, gpus: found }).find(({ id }) => id === "gpu_codecs")!;
  assert.deepEqual([codecs("", gpus).status, codecs("", gpus).found], ["OK", "NVIDIA H200 (9.0)"]);
  assert.equal(codecs("libcuda.so.1: no such file", []).status, "OK");
  assert.match(codecs("libcuda.so.1: no such file", []).found, /none run here: libcuda/);
  const bare = codecs("this build has no kernels: nvcc was not there", gpus);
  assert.equal(bare.status, "WARN");
  assert.match(bare.remedy, /nvcc/);
});

test("codecs on CPUs: their instructions, zstd and lz4 concern who has profiles that need them", (t) => {
  const coders = (isas: readonly string[], problem = ""): NativeCoders =>
    ({ isas, zstd: () => ({ version: problem === "" ? "1.5.7" : "", problem }) }) as NativeCoders;
  const folder = mkdtempSync(join(tmpdir(), "kvferry-checks-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const bothSides = { quantizer: { kind: "none" }, codec: { kind: "planes" } };
  const planes = join(folder, "planes.json");
  writeFileSync(planes, JSON.stringify({ exempt: 0, k: bothSides, v: bothSides }));
  const none = configOf({});
  const some = configOf({ codec: { profiles: ["lossless", planes, join(folder, "nowhere.json")] } });
  const linesOf = (...of: Parameters<typeof codecChecks>) => codecChecks(...of).map(({ id, status, found }) => `${status} ${id}: ${found}`);
  const absent = "libzstd.so.1 is not installed";
  assert.deepEqual(linesOf(none, coders(["avx512", "avx2", "scalar"]), ""), [
    "OK cpu_codecs: avx512 (this CPU also has avx2, scalar)",
    "OK zstd: zstd 1.5.7",
    "OK lz4: lz4-napi loads: a yardstick of kvferry codec",
  ]);
  assert.deepEqual(linesOf(some, coders(["scalar"], absent), "no binary"), [
    "WARN cpu_codecs: scalar code: this CPU has no AVX2 with FMA, F16C and BMI2",
    `WARN zstd: none: ${absent}; not offered: ${planes}`,
    "OK lz4: none, kvferry codec lacks a yardstick: no binary",
  ]);
  assert.deepEqual(linesOf(none, coders(["scalar"], absent), "").slice(0, 2), [
    "OK cpu_codecs: scalar code: this CPU has no AVX2 with FMA, F16C and BMI2",
    `OK zstd: none: ${absent}; profiles with the codecs zstd and planes would not be offered`,
  ]);
  assert.match(linesOf(none, coders(["neon", "scalar"]), "")[0]!, /^OK cpu_codecs: neon for matrix products/);
  for (const [config, status] of [
    [none, "OK"],
    [some, "WARN"],
  ] as const)
    assert.match(linesOf(config, undefined, "")[0]!, new RegExp(`^${status} cpu_codecs: none: the addon is not loaded`));
  const js = configOf({ link: "js", codec: { profiles: ["lossless"] } });
  assert.match(linesOf(js, coders(["avx2", "scalar"]), "")[0]!, /^WARN cpu_codecs: none: the JavaScript link/);
  const [here] = codecChecks(none, native?.codecCoders, lz4Problem());
  assert.match(here!.found, native === undefined ? /addon is not loaded/ : new RegExp(`^${native.codecIsas[0]}`));
});

test("nvCOMP: its version, or why profiles with its codecs are left out", () => {
  const found = (version: string, problem: string): string =>
    deviceChecks(host({}), { problem: "", version: 13_000, kernelBytes: 1, nvcomp: { version, problem }, gpus: [] }).find(
      ({ id }) => id === "nvcomp",
    )!.found;
  assert.match(found("6.0.0", ""), /^nvCOMP 6\.0\.0: nvcomp-ans and nvcomp-bitcomp/);
  const other = "nvCOMP is 5.3.0, and kvferry uses version 6";
  assert.equal(found("5.3.0", other), `none: ${other}; profiles with nvcomp-ans or nvcomp-bitcomp are left out`);
});

test("TLS: which OpenSSL, how fast, and how long the certificate is good for", (t) => {
  const cpu = (flags: string): Host => host({ "/proc/cpuinfo": `processor\t: 0\nflags\t\t: fpu ${flags}` });
  const [now, plain] = [Date.now(), configOf({})];
  for (const [flags, words] of [
    ["aes vaes", /AES in hardware/],
    ["sse2", /no AES instructions/],
  ] as const) {
    const [check] = tlsChecks(cpu(flags), plain, now);
    assert.equal(check?.status, "OK");
    assert.match(check.found, words);
  }
  const folder = mkdtempSync(join(tmpdir(), "kvferry-checks-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const material = tlsMaterial({ uri: "urn:node", validity: daysFromNow(60) });
  for (const kind of ["certificate", "key", "authorities"] as const) writeFileSync(join(folder, kind), material[kind]);
  const files = { certificate: join(folder, "certificate"), key: join(folder, "key"), authorities: join(folder, "authorities") };
  const certificate = (atMs: number, tls = files): Check =>
    tlsChecks(cpu("aes"), configOf({ tls }), atMs)[1] ?? assert.fail("no certificate");
  assert.match(certificate(now).found, /^urn:node, until \d{4}-\d\d-\d\d \((?:59|60) days\)$/);
  assert.equal(certificate(now).status, "OK");
  assert.equal(certificate(now + 50 * 86_400_000).status, "WARN");
  assert.match(certificate(now + 61 * 86_400_000).found, /has expired/);
  assert.equal(certificate(now, { ...files, key: join(folder, "nowhere") }).status, "FAIL");
  assert.equal(statusOf(tlsChecks(cpu("sse2"), configOf({ tls: files }), now), "tls"), "WARN");
});

test("a policy: whom this node may speak for, where its sockets go, and what is wrong with it", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-checks-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const material = tlsMaterial({ uri: "urn:node" });
  for (const kind of ["certificate", "key", "authorities"] as const) writeFileSync(join(folder, kind), material[kind]);
  const tls = { certificate: join(folder, "certificate"), key: join(folder, "key"), authorities: join(folder, "authorities") };
  const file = join(folder, "policy.json");
  const check = (tenants: unknown): Promise<Check[]> => {
    writeFileSync(file, JSON.stringify({ tenants }));
    return peerChecks(thisHost, configOf({ tls, policy: file }), Date.now());
  };
  const all = await check({ a: { identities: ["urn:*"], socket: join(folder, "a.sock") } });
  assert.deepEqual(
    all.map(({ id, status }) => [id, status]),
    [
      ["policy", "OK"],
      ["policy_identity", "OK"],
    ],
  );
  const some = await check({ a: { identities: ["urn:*"] }, b: { identities: ["urn:another"], socket: join(folder, "nowhere", "b.sock") } });
  assert.match(some.find(({ id }) => id === "policy_identity")!.found, /urn:node may speak for a, and not for b/);
  assert.equal(statusOf(some, "policy_identity"), "WARN");
  assert.equal(statusOf(some, "policy_socket"), "FAIL");
  assert.equal(statusOf(await check({ a: {} }), "policy"), "FAIL");
});

test("the advertised address: a listener, a host without one, and a name that leads nowhere", async (t) => {
  const server = createServer().listen(0, "127.0.0.1");
  t.after(() => server.close());
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const check = async (advertise: string): Promise<Check> => (await peerChecks(thisHost, configOf({ advertise }), 0))[0]!;
  assert.match((await check(`127.0.0.1:${port}`)).found, /somebody listens there/);
  server.close();
  await once(server, "close");
  assert.match((await check(`127.0.0.1:${port}`)).found, /nobody listens on the port now/);
  assert.equal((await check("nowhere.invalid:7411")).status, "WARN");
  assert.deepEqual(await peerChecks(thisHost, configOf({}), 0), []);
});

test("limits of the process, and a host that says nothing at all", async () => {
  const few = await processChecks(
    host({ "/proc/self/limits": "Max open files            128                  128                  files" }),
  );
  assert.equal(statusOf(few, "open_files"), "FAIL");
  const silent = [
    ...(await processChecks(host({}))),
    ...memoryChecks(host({}), configOf({})),
    ...networkChecks(host({}), configOf({}), { rttMs: 1, rateBytesPerSecond: 1e9 }),
  ];
  assert.ok(
    silent.every(({ found }) => found !== "" && !found.includes("NaN") && !found.includes("undefined")),
    JSON.stringify(silent, null, 1),
  );
});
