/** Checks of how peers find this node and whom it takes them for: the address that they are told, and the policy. */
import { connect } from "node:net";
import { dirname } from "node:path";
import type { Config } from "../../config.ts";
import { type HostPort, parseAddress } from "../../config/address.ts";
import { loadPolicy, type TenantConfig } from "../../config/policy-file.ts";
import { KvferryError } from "../../errors.ts";
import { Tenancy } from "../../policy/tenancy.ts";
import { describeCertificate, loadTls } from "../../tls/files.ts";
import { type Check, fail, type Host, ok, warn } from "./host.ts";

const CONNECT_MS = 3_000;

export async function peerChecks(host: Host, config: Config, nowMs: number): Promise<Check[]> {
  const address = parseAddress(config.advertise);
  return [
    ...(address === undefined ? [] : [await advertised(config.advertise, address)]),
    ...(config.policy === "" ? [] : policy(host, config, nowMs)),
  ];
}

/** A running node tries it better, by whether it finds itself there; this tells of addresses that lead nowhere. */
async function advertised(text: string, { host, port }: HostPort): Promise<Check> {
  const id = "advertise";
  const problem = await new Promise<string>((resolve) => {
    const socket = connect({ host, port, timeout: CONNECT_MS });
    const settle = (outcome: string): void => {
      socket.destroy();
      resolve(outcome);
    };
    socket.once("connect", () => settle(""));
    socket.once("timeout", () => settle(`no answer in ${CONNECT_MS / 1000} s`));
    socket.once("error", (error: NodeJS.ErrnoException) => settle(error.code ?? error.message));
  });
  if (problem === "") return ok(id, `${text}: somebody listens there; a running node says in /status whether it is itself`);
  // The host answers: what is missing may be only that the node is not running now.
  if (problem === "ECONNREFUSED") return ok(id, `${text}: the host is there, and nobody listens on the port now`);
  return warn(
    id,
    `${text}: ${problem}`,
    "Peers are told this address: it must be one of this node that they reach, or they will not find it.",
  );
}

function policy(host: Host, config: Config, nowMs: number): Check[] {
  let tenants: readonly TenantConfig[];
  try {
    tenants = loadPolicy(config.policy, config.pool);
  } catch (error) {
    if (!(error instanceof KvferryError)) throw error;
    return [fail("policy", error.detail, "kvferry serve will not start with this; one that runs keeps the policy that it has.")];
  }
  const names = tenants.map(({ name }) => name);
  return [
    ok("policy", `${names.length} tenants: ${names.join(", ")}`),
    own(config, new Tenancy(tenants), nowMs),
    ...sockets(host, tenants),
  ];
}

/** What this node may speak for by its own policy, which its peers' should say as well. */
function own(config: Config, tenancy: Tenancy, nowMs: number): Check {
  const id = "policy_identity";
  let identity: string;
  try {
    if (config.tls === undefined) return fail(id, "no certificate", "A tenant is known by nothing else: set tls.");
    ({ identity } = describeCertificate(loadTls(config.tls, nowMs).certificate));
  } catch (error) {
    if (!(error instanceof KvferryError)) throw error;
    return fail(id, error.detail, "Mend the certificate first.");
  }
  const mine = tenancy.tenantsOf(identity);
  const missing = tenancy.names.filter((name) => !mine.includes(name));
  if (missing.length === 0) return ok(id, `${identity} may speak for all of them`);
  const found = `${identity} may speak for ${mine.join(", ") || "none of them"}, and not for ${missing.join(", ")}`;
  return warn(id, found, "Peers with the same policy will refuse this node's connections for those: put its identity among theirs.");
}

function sockets(host: Host, tenants: readonly TenantConfig[]): Check[] {
  const nowhere = tenants.filter(({ socket }) => socket !== "" && host.space(dirname(socket)) === undefined);
  return nowhere.map(({ name, socket }) => fail("policy_socket", `${name}: no folder ${dirname(socket)}`, `mkdir -p ${dirname(socket)}`));
}
