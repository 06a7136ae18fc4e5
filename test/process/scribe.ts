/**
 * An engine that writes its blocks over and over, whatever becomes of its sidecar, as a GPU's stream would: `scribe.ts SOCKET COUNT`, forked. Says what
 * it holds; told "stop", it writes no more and comes back to the sidecar with what it had.
 */
import { connect } from "../../transport/api/client.ts";
import { BLOCK_BYTES, IDENTITY, processLayout } from "./sidecar.ts";

const [socket = "", count = ""] = process.argv.slice(2);
const WRITE_EACH_MS = 2;

/** What the scribe tells of itself. */
export interface Held {
  readonly ids: readonly number[];
}
export interface Returned {
  readonly resumed: boolean;
  readonly incarnationChanged: boolean;
  /** What its old blocks and its old offer were refused with. */
  readonly refusals: readonly string[];
}

const ferry = await connect(socket, { client: "scribe" });
const { dataOffset, blockCount } = await ferry.pool();
const { view } = await ferry.attach();
const blocks = await ferry.alloc(Number(count));
const { model } = await ferry.registerModel(IDENTITY, processLayout(blockCount));
const offered = { ids: blocks.ids.slice(0, 1), generations: blocks.generations.slice(0, 1) };
const handle = await ferry.offer({ model, groups: [{ group: 0, blocks: offered, tokens: 1 }] });

let round = 0;
const writing = setInterval(() => {
  round = (round % 250) + 1;
  for (const id of blocks.ids) view.fill(round, dataOffset + id * BLOCK_BYTES, dataOffset + (id + 1) * BLOCK_BYTES);
}, WRITE_EACH_MS);

process.on("message", () => {
  clearInterval(writing);
  void comeBack();
});
process.send?.({ ids: [...blocks.ids] } satisfies Held);

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "",
    (error: { code?: string }) => error.code ?? String(error),
  );

async function comeBack(): Promise<void> {
  const { resumed, incarnationChanged } = await ferry.reconnect();
  const refusals = [await codeOf(ferry.free(blocks)), await codeOf(ferry.withdraw(handle))];
  process.send?.({ resumed, incarnationChanged, refusals } satisfies Returned);
  process.disconnect();
  await ferry.close();
}
