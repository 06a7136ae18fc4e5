/** A WebSocket with no manners, for what the real client never sends: any bytes, any order, and the answers one by one. */
import { connect } from "node:net";
import { WebSocket } from "ws";
import { decodeMessage, encodeMessage, type Message } from "../../transport/api/codec.ts";

export class RawClient {
  readonly messages: Message[] = [];
  readonly websocket: WebSocket;
  /** Undefined while open. */
  closeCode: number | undefined;

  private constructor(websocket: WebSocket) {
    this.websocket = websocket;
    websocket.on("message", (data) => this.messages.push(decodeMessage(data as Buffer)));
    websocket.on("close", (code) => {
      this.closeCode = code;
    });
    websocket.on("error", () => {});
  }

  static async open(path: string): Promise<RawClient> {
    const client = new RawClient(new WebSocket("ws://localhost/", { createConnection: () => connect({ path }), perMessageDeflate: false }));
    await new Promise<void>((resolve, reject) => {
      client.websocket.once("open", resolve);
      client.websocket.once("error", reject);
    });
    return client;
  }

  send(bytes: Uint8Array | string): void {
    this.websocket.send(bytes);
  }

  /** Sends a message and waits for the next one that comes. */
  async ask(message: Message): Promise<Message> {
    const before = this.messages.length;
    this.send(encodeMessage(message));
    await this.until(() => this.messages.length > before || this.closeCode !== undefined);
    return this.messages[before] ?? { closed: this.closeCode };
  }

  /** Asks and gives the code of the error that must come. */
  async codeOf(message: Message): Promise<unknown> {
    const { error } = await this.ask(message);
    return (error as Message | undefined)?.["code"];
  }

  async closed(): Promise<number> {
    await this.until(() => this.closeCode !== undefined);
    return this.closeCode!;
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
  }

  end(): void {
    this.websocket.terminate();
  }
}

export const HELLO = { id: 1, op: "hello", version: 1, client: "raw", processId: process.pid };
