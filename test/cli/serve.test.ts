/**
 * kvferry serve as a process. Method: started with a small pool, asked over its socket, ended by signals; what people are told must work:
 * the printed socket answers, the printed address is listened on.
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { connect as dial, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { connect } from "../../transport/api/client.ts";
import { native } from "../../transport/native.ts";
import { finish, kvferry, start } from "./spawn.ts";
import { get } from "../http.ts";

const folder = mkdtempSync(join(tmpdir(), "kvferry-serve-"));
after(() => rmSync(folder, { recursive: true }));

function flags(name: string, ...more: string[]): string[] {
  const socket = join(folder, `${name}.sock`);
  return [
    "serve",
    "--name",
    name,
    "--socket",
    socket,
    "--pool-bytes",
    "8MiB",
    "--pool-block-bytes",
    "64KiB",
    "--pool-directory",
    folder,
    ...more,
  ];
}

/** Resolves when it has said where it is. */
async function listening(child: ReturnType<typeof start>): Promise<string> {
  let said = "";
  return new Promise((resolve, reject) => {
    child.once("close", (code) => reject(new Error(`ended with ${code}: ${said}`)));
    child.stderr?.on("data", (text: Buffer) => (said += text.toString()));
    child.stdout?.on("data", (text: Buffer) => {
      said += text.toString();
      if (said.includes("status:")) resolve(said);
    });
  });
}

test("it says where it listens, serves engines, metrics and status there, and ends with 0 at SIGTERM", async () => {
  const child = start(flags("one", "--listen", "127.0.0.1:0"));
  const said = await listening(child);
  const socket = join(folder, "one.sock");
  assert.match(said, /kvferry \S+ "one": pool of 8 MiB/);
  assert.equal(statSync(socket).mode & 0o777, 0o600);
  const port = Number(/peers:\s+127\.0\.0\.1:(\d+)/.exec(said)?.[1]);
  await new Promise<void>((resolve, reject) =>
    dial(port, "127.0.0.1")
      .once("error", reject)
      .once("connect", function (this: { destroy(): void }) {
        this.destroy();
        resolve();
      }),
  );

  const ferry = await connect(socket);
  const blocks = await ferry.alloc(3);
  assert.equal(blocks.ids.length, 3);
  const { status, body } = await get(socket, "/metrics");
  assert.equal(status, 200);
  assert.match(body, /^kvferry_pool_blocks\{state="held"\} 3$/m);
  assert.match(body, /^kvferry_api_clients 1$/m);
  assert.match(body, /^# TYPE kvferry_path_window_bytes gauge$/m);
  assert.match(body, /^kvferry_api_requests_total\{verb="alloc",result="ok"\} 1$/m);
  const document = JSON.parse((await get(socket, "/status")).body) as Record<string, unknown>;
  assert.equal(document["name"], "one");
  assert.equal(document["link"], native === undefined ? "js" : "tcp");
  assert.equal((await get(socket, "/healthz")).status, 200);
  await ferry.close();

  child.kill("SIGTERM");
  const { code } = await finish(child, 20_000);
  assert.equal(code, 0);
  assert.ok(!existsSync(socket), "the socket is gone");
});

test("what cannot be had is said in one line with a remedy, exit code 2", async (t) => {
  const taken = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => taken.once("listening", resolve));
  t.after(() => taken.close());
  const { port } = taken.address() as { port: number };
  const [room, address] = await Promise.all([
    kvferry(flags("room").map((word) => (word === "8MiB" ? "4TiB" : word))),
    kvferry(flags("address", "--listen", `127.0.0.1:${port}`)),
  ]);
  assert.equal(room.code, 2);
  assert.match(room.stderr, /^kvferry: memory_unavailable: .+\n {2}\S.+$/m);
  assert.equal(address.code, 2);
  assert.match(address.stderr, /^kvferry: address_unavailable: .+\n {2}\S.+$/m);
});

test("a signal while it starts ends it in order", async () => {
  const child = start(flags("early"));
  setTimeout(() => child.kill("SIGTERM"), 1_500);
  const { code, signal } = await finish(child, 20_000);
  assert.ok(code === 0 || signal === "SIGTERM", "before its handlers stand, the signal does what signals do");
  assert.ok(!existsSync(join(folder, "early.sock")));
});

test("without the addon it serves all the same, and says so aloud", async () => {
  const child = start(flags("plain", "--log-format", "text", "--congestion-control", "westwards"), { KVFERRY_NATIVE: "off" });
  const said = await listening(child);
  assert.match(said, /link js \(no addon: KVFERRY_NATIVE=off\)/);
  child.kill("SIGINT");
  const { code, stderr } = await finish(child, 20_000);
  assert.equal(code, 0);
  assert.match(said + stderr, /LINK DOWNGRADE/);
  assert.match(said + stderr, /CONGESTION CONTROL NOT AVAILABLE: lanes keep the host.s wanted=westwards remedy=modprobe tcp_westwards/);
});
