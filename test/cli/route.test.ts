/**
 * kvferry route as a process. Method: started in front of engines of the test's own, asked where it says it listens, ended by signals; help
 * names every setting, and what is wrong ends in exit code 2 with a line that says what and one that says what to do.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";
import { routeTable } from "../../transport/config/route-schema.ts";
import { FakeEngine, json, PARAMS, prefills, says } from "../route/fake-engine.ts";
import { finish, kvferry, start } from "./spawn.ts";

async function listening(child: ReturnType<typeof start>): Promise<{ url: string; said: string }> {
  let said = "";
  return new Promise((resolve, reject) => {
    child.once("close", (code) => reject(new Error(`ended with ${code}: ${said}`)));
    child.stderr?.on("data", (text: Buffer) => (said += text.toString()));
    child.stdout?.on("data", (text: Buffer) => {
      said += text.toString();
      const url = /route: (http:\S+)\/v1/.exec(said)?.[1];
      if (url !== undefined && said.includes("status:")) resolve({ url, said });
    });
  });
}

test("it says where it listens, routes, and ends with 0 at SIGTERM once the running request has its answer", async (t) => {
  const [prefill, decode] = await Promise.all([new FakeEngine(prefills).start(), new FakeEngine(says("x")).start()]);
  t.after(() => Promise.all([prefill.stop(), decode.stop()]));
  const engines = ["--prefill", prefill.url, "--decode", decode.url];
  const child = start(["route", "--static", "--listen", "127.0.0.1:0", ...engines, "--log-format", "text"]);
  t.after(() => child.kill("SIGKILL"));
  const ended = finish(child);
  const { url, said } = await listening(child);
  assert.ok(said.includes(`prefill:  ${prefill.url}\ndecode:   ${decode.url}\n`), said);
  const ask = (): Promise<Response> => fetch(`${url}/v1/completions`, { method: "POST", body: '{"prompt":"tell me"}' });
  assert.match(await (await ask()).text(), /"x"/);
  assert.equal(decode.seen[0]!.body, `{"prompt":"tell me","kv_transfer_params":${PARAMS}}`);
  assert.match(await (await fetch(`${url}/metrics`)).text(), /^kvferry_route_prefills_total 1$/m);

  let release: () => void = () => {};
  decode.behaviour = (_seen, response) => void (release = () => json(response, 200, '{"last":1}'));
  const last = ask();
  await decode.request(1);
  child.kill("SIGTERM");
  // It listens until the last answer is out, and says that it is leaving.
  while ((await fetch(`${url}/healthz`)).status !== 503) await new Promise((resolve) => setTimeout(resolve, 20));
  release();
  assert.equal(await (await last).text(), '{"last":1}');
  const { code, stderr } = await ended;
  assert.equal(code, 0);
  assert.match(stderr, /route: draining[\s\S]*route: stopped/);
});

test("help teaches; every setting has its flag and variable", async () => {
  const { code, stdout, stderr } = await kvferry(["route", "--help"]);
  assert.deepEqual([code, stderr], [0, ""]);
  const words = stdout.replace(/\s+/g, " ");
  for (const { flag, variable } of routeTable.fields) assert.ok(words.includes(flag) && words.includes(variable), flag);
  assert.match(stdout, /Examples:[\s\S]*kvferry route --static --prefill/);
});

test("what is wrong ends in exit code 2 with what to do", async (t) => {
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  t.after(() => taken.close());
  const { port } = taken.address() as { port: number };
  const decode = ["--decode", "http://127.0.0.1:1"];
  const wrong: [string[], RegExp][] = [
    [["route", ...decode], /^kvferry: invalid_argument: .*Expected --static.*\n {2}\S/],
    [["route", "--static"], /^kvferry: invalid_config: .*at least one engine for decode.*\n {2}\S/],
    [["route", "--static", ...decode, "--listen", "0.0.0.0:1"], /^kvferry: invalid_config: .*--insecure/],
    [["route", "--static", ...decode, "--allow-prefiller", "*:1"], /^kvferry: invalid_config: .*allowPrefiller/],
    [["route", "--static", ...decode, "--listen", `127.0.0.1:${port}`], /^kvferry: address_unavailable: .*\n {2}\S/],
  ];
  const runs = await Promise.all(wrong.map(([args]) => kvferry(args)));
  runs.forEach(({ code, stderr, stdout }, index) => {
    assert.match(stderr, wrong[index]![1]);
    assert.deepEqual([code, stdout], [2, ""], stderr);
  });
  const { stdout } = await kvferry(["route", "--static", ...decode, "--print-config", "--prefill-timeout", "3s"]);
  assert.match(stdout, /^prefillTimeoutMs +3000 +--prefill-timeout$/m);
});
