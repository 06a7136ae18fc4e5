/**
 * TLS of the JavaScript link, by node:tls: the same handshake as the native link's (native/tcp/tls.cpp), the same judgement of certificates, and
 * sessions that are resumed.
 */
import type { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { connect, createServer, type SecureContextOptions, type Server, type TLSSocket } from "node:tls";
import { type ErrorCode } from "../errors.ts";
import { ALPN, checkTls, CIPHERS, identityOf, isDenied, isNamed, organizationOf, type TlsOptions, type TlsPeer } from "../tls/options.ts";
import type { Endpoint } from "./link.ts";
import type { RefusalReason } from "./refusals.ts";

const SESSIONS_KEPT = 256;
const CHAIN_MAX = 16;
const RECORD_HANDSHAKE = 22;

export interface TlsProblem {
  readonly code: ErrorCode;
  readonly reason: RefusalReason;
  readonly detail: string;
}

export type Handshake =
  | { readonly socket: TLSSocket; readonly peer: TlsPeer }
  | { readonly socket?: TLSSocket; readonly problem: TlsProblem };

/** A client's session, and whose certificate it rests on: a resumed one shows none. */
interface Session {
  readonly ticket: Buffer;
  readonly certificate: X509Certificate;
}

export class JsTls {
  readonly #settings: SecureContextOptions;
  readonly #denied: ReadonlySet<string>;
  readonly #sessions = new Map<string, Session>();
  readonly #server: Server;
  /** Sockets in their handshake, by both their ends. */
  readonly #arrivals = new Map<string, (handshake: Handshake) => void>();

  /** Throws KvferryError (invalid_argument). */
  constructor(options: TlsOptions, handshakeTimeoutMs: number) {
    this.#denied = new Set(checkTls(options, Date.now()).denied);
    this.#settings = {
      cert: Buffer.from(options.certificate),
      key: Buffer.from(options.key),
      ca: Buffer.from(options.authorities),
      ciphers: CIPHERS,
      minVersion: "TLSv1.3",
      maxVersion: "TLSv1.3",
    };
    // It listens at nothing. Certificates that OpenSSL has found wrong come through, so that `#judge` can say to the peer what is wrong with them.
    this.#server = createServer({
      ...this.#settings,
      requestCert: true,
      rejectUnauthorized: false,
      ALPNProtocols: [ALPN],
      handshakeTimeout: handshakeTimeoutMs,
    });
    this.#server.on("secureConnection", (socket) => this.#arrived(socket, () => this.#judge(socket, socket.getPeerX509Certificate())));
    this.#server.on("tlsClientError", (error, socket) => this.#arrived(socket, () => ({ problem: problemOf(error) })));
  }

  /** Whether bytes begin a handshake. */
  static isHello(bytes: Uint8Array): boolean {
    return bytes[0] === RECORD_HANDSHAKE;
  }

  /** Takes a socket of which nothing has been read (or that was given back) through the server's side of a handshake. */
  accept(socket: Socket, settle: (handshake: Handshake) => void): void {
    const name = nameOf(socket);
    this.#arrivals.set(name, settle);
    socket.once("close", () => this.#arrivals.delete(name));
    this.#server.emit("connection", socket);
  }

  /** Dials. Nothing that is written to the socket leaves before the other end has been found to be `expected`. */
  dial({ host, port }: Endpoint, expected: string, settle: (handshake: Handshake) => void): TLSSocket {
    const target = `${host} ${port} ${expected}`;
    const known = this.#sessions.get(target);
    const resumes = known !== undefined && this.#wrongWith(known.certificate, expected) === undefined;
    const socket = connect({
      ...this.#settings,
      host,
      port,
      ALPNProtocols: [ALPN],
      ...(resumes ? { session: known.ticket } : {}),
      // What OpenSSL finds wrong with it ends the handshake; whose it is is judged below.
      checkServerIdentity: () => undefined,
    });
    socket.setNoDelay(true);
    socket.cork();
    let certificate: X509Certificate | undefined;
    socket.once("secureConnect", () => {
      certificate = socket.isSessionReused() ? known?.certificate : socket.getPeerX509Certificate();
      const handshake = this.#judge(socket, certificate, expected);
      if ("peer" in handshake) socket.uncork();
      settle(handshake);
    });
    socket.on("session", (ticket) => {
      if (certificate !== undefined) this.#keep(target, { ticket, certificate });
    });
    return socket;
  }

  #arrived(socket: TLSSocket, outcome: () => Handshake): void {
    const settle = this.#arrivals.get(nameOf(socket));
    if (settle === undefined) return void socket.destroy();
    this.#arrivals.delete(nameOf(socket));
    settle(outcome());
  }

  /** `expected`: of the client alone. */
  #judge(socket: TLSSocket, certificate: X509Certificate | undefined, expected?: string): Handshake {
    const refused = (code: ErrorCode, reason: RefusalReason, detail: string): Handshake => ({ socket, problem: { code, reason, detail } });
    if (socket.alpnProtocol !== ALPN) return refused("tls_failed", "handshake", "the peer speaks TLS, and not kvferry over it");
    if (certificate === undefined) return refused("certificate_rejected", "no_certificate", "the peer shows no certificate");
    const whose = `the peer's certificate (of ${identityOf(certificate)})`;
    if (!socket.authorized) {
      const found = String(socket.authorizationError);
      return refused("certificate_rejected", reasonOf(found), `${whose}: ${wordsOf(found)}`);
    }
    const wrong = this.#wrongWith(certificate, expected);
    if (wrong !== undefined) return refused("certificate_rejected", wrong[0], `${whose} ${wrong[1]}`);
    return {
      socket,
      peer: {
        identity: identityOf(certificate),
        organization: organizationOf(certificate),
        protocol: socket.getProtocol() ?? "",
        cipher: socket.getCipher().standardName,
        resumed: socket.isSessionReused(),
      },
    };
  }

  /** Beyond what OpenSSL checks, and again where a session was resumed, which checks nothing. */
  #wrongWith(certificate: X509Certificate, expected: string | undefined): readonly [RefusalReason, string] | undefined {
    if (Date.parse(certificate.validTo) < Date.now()) return ["expired", "has expired"];
    let link: X509Certificate | undefined = certificate;
    for (let depth = 0; link !== undefined && depth < CHAIN_MAX; depth++, link = link.issuerCertificate) {
      if (isDenied(link, this.#denied)) return ["denied", "is denied here"];
    }
    if (expected !== undefined && !isNamed(certificate, expected)) return ["wrong_identity", `is not of ${expected}`];
    return undefined;
  }

  #keep(target: string, session: Session): void {
    this.#sessions.delete(target);
    const [oldest] = this.#sessions.keys();
    if (this.#sessions.size >= SESSIONS_KEPT && oldest !== undefined) this.#sessions.delete(oldest);
    this.#sessions.set(target, session);
  }
}

/** What an error of a socket in its handshake comes to. */
export function problemOf(error: Error & { readonly code?: string }): TlsProblem {
  const code = error.code ?? "";
  const alert = /^ERR_SSL_.+?_ALERT_(\w+)$/.exec(code)?.[1];
  if (alert !== undefined) {
    if (!/CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED/.test(alert)) {
      return { code: "tls_failed", reason: "handshake", detail: `the peer ended the handshake: ${wordsOf(alert)}` };
    }
    return { code: "certificate_rejected", reason: "handshake", detail: `the peer refused this node's certificate: ${wordsOf(alert)}` };
  }
  if (/^ERR_SSL_(?:WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|UNSUPPORTED_PROTOCOL_VERSION|HTTP_REQUEST)$/.test(code)) {
    return { code: "tls_failed", reason: "garbage", detail: "the peer does not speak TLS" };
  }
  if (code.startsWith("ERR_SSL_") || code.startsWith("ERR_TLS_")) return { code: "tls_failed", reason: "handshake", detail: error.message };
  const reason = reasonOf(code);
  if (reason !== "handshake") return { code: "certificate_rejected", reason, detail: `the peer's certificate: ${wordsOf(code)}` };
  return { code: "connect_failed", reason, detail: error.message };
}

/** Of OpenSSL's names for what is wrong with a certificate. */
function reasonOf(found: string): RefusalReason {
  if (found === "CERT_HAS_EXPIRED") return "expired";
  if (/SELF_SIGNED|UNABLE_TO_GET_ISSUER|UNABLE_TO_VERIFY_LEAF/.test(found)) return "unknown_ca";
  return /^(?:CERT_|CRL_|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH)/.test(found) ? "bad_certificate" : "handshake";
}

function wordsOf(code: string): string {
  return code.toLowerCase().replaceAll("_", " ");
}

function nameOf({ localAddress, localPort, remoteAddress, remotePort }: Socket): string {
  return `${localAddress} ${localPort} ${remoteAddress} ${remotePort}`;
}
