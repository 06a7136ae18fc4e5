/** kvferry cert: an authority for tests and small fleets, and certificates from it. Nothing here is needed by who has an authority already. */
import { chmodSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { isHost } from "../config/address.ts";
import { expected } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { makeFolder } from "../folder.ts";
import { daysFromNow, type Issued, issueAuthority, issueCertificate } from "../tls/issue.ts";
import { usage } from "./failure.ts";

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const URI = /^[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]{1,1000}$/;
const DAYS_MAX = 36_500;
const AUTHORITY = "ca";

interface AuthorityOptions {
  readonly out: string;
  readonly name: string;
  readonly days: string;
  readonly force?: boolean;
}

interface NodeOptions {
  readonly ca: string;
  readonly name: string;
  readonly host: readonly string[];
  readonly uri?: string;
  readonly organization?: string;
  readonly days: string;
  readonly out: string;
  readonly force?: boolean;
}

const EXAMPLES = `
Examples:
  kvferry cert ca --out /etc/kvferry/ca
  kvferry cert node --ca /etc/kvferry/ca --name prefill --host prefill.example --host 10.0.0.5 --out /etc/kvferry
  kvferry cert node --ca /etc/kvferry/ca --name decode --host 10.0.0.6 --uri spiffe://fleet/decode --organization "Team A" --out /etc/kvferry
  kvferry serve --listen 10.0.0.5:7411 --tls-certificate /etc/kvferry/prefill.crt --tls-key /etc/kvferry/prefill.key \\
                --tls-authorities /etc/kvferry/ca/ca.crt

A node shows the same certificate to whom it dials and to who dials it. Who dials expects the name or address that it dials among the hosts, or
what \`identity\` of the peer says. A node is known by its URI, else by its first host name, else by its name.
Keep ca.key where no node is. Certificates of any other authority do as well.`;

export function certCommand(): Command {
  const command = new Command("cert").description("make a certificate authority for tests and small fleets, and certificates of nodes");
  command
    .command("ca")
    .description("make an authority: ca.crt and ca.key")
    .requiredOption("--out <directory>", "where the files go")
    .option("--name <text>", "its name", "kvferry test authority")
    .option("--days <n>", "how long it is valid", "3650")
    .option("--force", "replace what is there")
    .action((options: AuthorityOptions) => makeAuthority(options));
  command
    .command("node")
    .description("issue a certificate to a node: NAME.crt and NAME.key")
    .requiredOption("--ca <directory>", "where ca.crt and ca.key are")
    .requiredOption("--name <name>", "the node's name")
    .option("--host <host>", "name or address that it is dialled by; may be given again", collect, [] as readonly string[])
    .option("--uri <uri>", "its identity, such as spiffe://fleet/prefill")
    .option("--organization <text>", "whose it is")
    .option("--days <n>", "how long it is valid", "365")
    .requiredOption("--out <directory>", "where the files go")
    .option("--force", "replace what is there")
    .action((options: NodeOptions) => makeNode(options));
  for (const verb of [command, ...command.commands]) verb.addHelpText("after", EXAMPLES);
  return command;
}

function makeAuthority({ out, name, days, force }: AuthorityOptions): void {
  const validity = daysFromNow(daysOf(days));
  const authority = issueAuthority({ name: textOf(name, "--name") }, validity);
  write(out, AUTHORITY, authority, force === true);
  tell(out, AUTHORITY, validity.notAfter);
}

function makeNode({ ca, name, host, uri, organization, days, out, force }: NodeOptions): void {
  if (!NAME.test(name)) throw expected("1-64 letters, digits, dots, dashes or underscores", "--name", name);
  for (const one of host) if (!isHost(one)) throw expected("a name or an address", "--host", one);
  if (uri !== undefined && !URI.test(uri)) throw expected("a URI such as spiffe://fleet/prefill", "--uri", uri);
  if (name === AUTHORITY && ca === out) throw usage("a node called ca would take the place of its authority");
  const validity = daysFromNow(daysOf(days));
  const subject = {
    name,
    hosts: host,
    ...(uri === undefined ? {} : { uri }),
    ...(organization === undefined ? {} : { organization: textOf(organization, "--organization") }),
  };
  const authority = { certificate: read(ca, `${AUTHORITY}.crt`), key: read(ca, `${AUTHORITY}.key`) };
  write(out, name, issueCertificate(authority, subject, validity), force === true);
  tell(out, name, validity.notAfter);
}

function tell(directory: string, name: string, notAfter: Date): void {
  console.log(`${join(directory, `${name}.crt`)}   valid until ${notAfter.toISOString().slice(0, 10)}`);
  console.log(`${join(directory, `${name}.key`)}   of this user alone`);
}

/** The key first, so that no certificate lies there without one; under another name first, so that nobody reads half a file. */
function write(directory: string, name: string, { certificate, key }: Issued, force: boolean): void {
  const files = [
    { path: join(directory, `${name}.key`), text: key, mode: 0o600 },
    { path: join(directory, `${name}.crt`), text: certificate, mode: 0o644 },
  ];
  const there = files.find(({ path }) => existsSync(path));
  if (there !== undefined && !force) throw usage(`${there.path} is there already; --force replaces it`);
  let fresh = "";
  try {
    makeFolder(directory, 0o755);
    for (const { path, text, mode } of files) {
      fresh = `${path}.${process.pid}`;
      writeFileSync(fresh, text, { mode, flag: "wx" });
      chmodSync(fresh, mode);
      renameSync(fresh, path);
    }
  } catch (error) {
    // On a full disk half a key would stay.
    if (fresh !== "") rmSync(fresh, { force: true });
    throw new KvferryError("invalid_argument", `--out: ${(error as Error).message}`, { cause: error });
  }
}

function read(directory: string, file: string): string {
  try {
    return readFileSync(join(directory, file), "utf8");
  } catch (error) {
    throw usage(`${(error as Error).message}; kvferry cert ca --out ${directory} makes an authority`);
  }
}

function daysOf(text: string): number {
  const days = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (days < 1 || days > DAYS_MAX) throw expected(`a number of days from 1 to ${DAYS_MAX}`, "--days", text);
  return days;
}

function textOf(text: string, flag: string): string {
  if (text.length >= 1 && text.length <= 64 && [...text].every((one) => one >= " " && one !== "\u007f")) return text;
  throw expected("1 to 64 characters of text", flag, text);
}

function collect(host: string, hosts: readonly string[]): readonly string[] {
  return [...hosts, host];
}
