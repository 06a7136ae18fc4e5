/** Transfers that a client has started and whose ends it has not heard of. */
import { ERRORS, type ErrorCode, KvferryError } from "../errors.ts";
import type { FerryEvent, Transfer, TransferReport } from "../ferry/ferry.ts";

interface Running {
  readonly resolve: (report: TransferReport) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

type EndEvent = Extract<FerryEvent, { kind: "done" | "failed" }>;

export class ClientTransfers {
  readonly #running = new Map<number, Running>();
  readonly #cancel: (transfer: number) => void;

  /** @param cancel asks the server to end a transfer. */
  constructor(cancel: (transfer: number) => void) {
    this.#cancel = cancel;
  }

  /** @param timeoutMs behind the server's own deadline: only a server that has forgotten the transfer is ever that late. */
  add(transfer: number, timeoutMs: number): Transfer {
    const done = new Promise<TransferReport>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#running.delete(transfer);
        this.#cancel(transfer);
        reject(new KvferryError("deadline_exceeded", `no end of transfer ${transfer} within ${timeoutMs} ms`));
      }, timeoutMs);
      timer.unref();
      this.#running.set(transfer, { resolve, reject, timer });
    });
    // Whoever only listens to events need not handle the promise as well.
    done.catch(() => {});
    const cancel = (): void => {
      if (this.#running.has(transfer)) this.#cancel(transfer);
    };
    return { transfer, done, cancel };
  }

  end(event: EndEvent): void {
    const running = this.#take(event.transfer);
    if (event.kind === "done") running?.resolve(event.report);
    else running?.reject(new KvferryError(Object.hasOwn(ERRORS, event.code) ? (event.code as ErrorCode) : "internal", event.detail));
  }

  failAll(code: ErrorCode, detail: string): void {
    for (const transfer of [...this.#running.keys()]) this.#take(transfer)?.reject(new KvferryError(code, detail));
  }

  #take(transfer: number): Running | undefined {
    const running = this.#running.get(transfer);
    this.#running.delete(transfer);
    clearTimeout(running?.timer);
    return running;
  }
}
