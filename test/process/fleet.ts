/** Sidecars of several tenants for tests: certificates of one authority, a policy each, an engine for each tenant. */
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { type AddressInfo, connect as dial, createServer, type Socket } from "node:net";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { daysFromNow, type Issued, issueAuthority, issueCertificate } from "../../transport/tls/issue.ts";
import { type Engine, freePort, openEngine, scratchFolder, type Sidecar, startSidecar } from "./sidecar.ts";

export const TENANTS = ["blue", "green"] as const;

export interface TenantStatus {
  readonly tenant: string;
  readonly bytes_received: number;
  readonly pool: Readonly<Record<string, number>>;
  readonly peers: readonly {
    readonly up: boolean;
    readonly identity: string;
    readonly path: { readonly pace: { readonly reason: string } };
  }[];
}

export interface FleetStatus {
  readonly tenants: readonly TenantStatus[];
  readonly refusals: Readonly<Record<string, number>>;
}

export interface Served {
  readonly sidecar: Sidecar;
  readonly policy: string;
  readonly blue: Engine;
  readonly green: Engine;
  restart(): Promise<void>;
}

/** Bytes as they are, TLS and all. */
export interface Wire {
  readonly port: number;
  /** Set: what is there is reset, and so is whatever comes. */
  isCut: boolean;
}

export async function newWire(t: TestContext, to: number): Promise<Wire> {
  const sockets = new Set<Socket>();
  let isCut = false;
  const server = createServer((near) => {
    const far = dial(to, "127.0.0.1");
    for (const [from, into] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from
        .on("error", () => {})
        .once("close", () => {
          sockets.delete(from);
          into.destroy();
        });
      if (isCut) from.resetAndDestroy();
      else from.pipe(into);
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const reset = (): void => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  t.after(() => {
    server.close();
    reset();
  });
  return {
    port: (server.address() as AddressInfo).port,
    get isCut() {
      return isCut;
    },
    set isCut(value) {
      isCut = value;
      if (isCut) reset();
    },
  };
}

export interface Fleet {
  readonly folder: string;
  readonly authority: Issued;
}

export function newFleet(t: TestContext): Fleet {
  const folder = scratchFolder(t);
  const authority = issueAuthority({ name: "fleet" }, daysFromNow(1));
  writeFileSync(join(folder, "ca.crt"), authority.certificate);
  return { folder, authority };
}

/** Files of a node's certificate, and the flags that name them. */
export function certified({ folder, authority }: Fleet, name: string, uri: string): string[] {
  const { certificate, key } = issueCertificate(authority, { name, hosts: ["127.0.0.1"], uri }, daysFromNow(1));
  writeFileSync(join(folder, `${name}.crt`), certificate);
  writeFileSync(join(folder, `${name}.key`), key);
  const file = (kind: string): string => join(folder, kind);
  return ["--tls-certificate", file(`${name}.crt`), "--tls-key", file(`${name}.key`), "--tls-authorities", file("ca.crt")];
}

export const socketOf = (folder: string, node: string, tenant: string): string => join(folder, `${node}.${tenant}.sock`);

/** Green may fetch what blue has in public namespaces. */
export function writePolicy(folder: string, node: string, rules: readonly object[], identities: readonly string[]): string {
  const [blue, green] = TENANTS.map((tenant) => ({ identities, socket: socketOf(folder, node, tenant) }));
  const file = join(folder, `${node}.policy.json`);
  writeFileSync(file, JSON.stringify({ tenants: { blue, green: { ...green, rate: "400Mbit", fetch: rules } } }));
  return file;
}

export const PUBLIC = [{ from: "blue", namespaces: ["public/*"] }];
export const FLEET = ["spiffe://fleet/*"];

export async function serve(t: TestContext, fleet: Fleet, name: string, flags: readonly string[] = []): Promise<Served> {
  const { folder } = fleet;
  const policy = writePolicy(folder, name, PUBLIC, FLEET);
  const all = ["--policy", policy, ...certified(fleet, name, `spiffe://fleet/${name}`), ...flags];
  const options = { name, port: await freePort(), folder, flags: all };
  const engine = (tenant: string): Promise<Engine> => openEngine(t, { socket: socketOf(folder, name, tenant) });
  let sidecar = await startSidecar(t, options);
  let [blue, green] = (await Promise.all(TENANTS.map(engine))) as [Engine, Engine];
  return {
    policy,
    get sidecar() {
      return sidecar;
    },
    get blue() {
      return blue;
    },
    get green() {
      return green;
    },
    async restart() {
      sidecar.child.kill("SIGKILL");
      await sidecar.exited;
      sidecar = await startSidecar(t, options);
      [blue, green] = (await Promise.all(TENANTS.map(engine))) as [Engine, Engine];
    },
  };
}
