/**
 * llama.cpp behind the few verbs that an engine beside kvferry needs: load, tokenize, and for each of its sequences prefill, save and
 * restore a state, decode. node-llama-cpp is imported when it is needed and described here by what is used of it, so that this file
 * compiles where it is not installed.
 */
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { basename } from "node:path";
import type { KvShape } from "./blocks.ts";
import { readStateFile, withStateFile, writeStateFile } from "./carrier.ts";
import { KvferryError, type ModelIdentity } from "./kvferry.ts";
import { kvShapeOf, type Metadata, ropeOf } from "./metadata.ts";
import { parseState, sameShape, type SequenceState, type StateShape } from "./state.ts";

export interface RuntimeOptions {
  /** Path of a GGUF file. */
  readonly modelPath: string;
  /** For each sequence. */
  readonly contextTokens: number;
  readonly sequences: number;
  /** Where llama.cpp's own messages go. */
  readonly log: (line: string) => void;
}

export interface Runtime {
  readonly identity: ModelIdentity;
  readonly kv: KvShape;
  /** Of every state that is saved and restored here. */
  readonly stateShape: StateShape;
  /** Of each sequence. */
  readonly contextTokens: number;
  /** For people: which model, which llama.cpp. */
  readonly description: string;
  /** Independent of each other. */
  readonly sequences: readonly RuntimeSequence[];
  /** Markers such as <|im_start|> become their tokens. */
  tokenize(text: string): number[];
  detokenize(tokens: readonly number[]): string;
  close(): Promise<void>;
}

export interface RuntimeSequence {
  /** Forgets everything, then evaluates the tokens: all but a prompt's last, which is what a decode begins with. */
  prefill(tokens: readonly number[]): Promise<void>;
  /** Forgets everything, restores the state of the first tokens, then evaluates the others. */
  resume(state: SequenceState, tokens: readonly number[]): Promise<void>;
  save(): Promise<SequenceState>;
  /** Evaluates `last` and continues greedily; `onToken` sees each new token as it comes. Ends early at the model's end mark. */
  decode(last: number, count: number, onToken: (token: number) => void): Promise<void>;
}

/** Two threads on shared cores wait for each other in busy loops and are slower than one. */
const THREADS = 1;
/** Part of the arithmetic: sums come out the same only in batches of the same shape. */
const BATCH_TOKENS = 512;
const KV_ELEMENT = "F16";

/** What is used of node-llama-cpp. */
interface Sequence {
  clearHistory(): Promise<void>;
  evaluateWithoutGeneratingNewTokens(tokens: readonly number[]): Promise<void>;
  evaluate(tokens: readonly number[], options: { readonly temperature: number }): AsyncGenerator<number, void, void>;
  saveStateToFile(path: string): Promise<{ readonly fileSize: number }>;
  loadStateFromFile(path: string, options: { readonly acceptRisk: true }): Promise<void>;
}

interface Model {
  readonly fileInfo: { readonly metadata: Metadata };
  tokenize(text: string, specialTokens: boolean): number[];
  detokenize(tokens: readonly number[]): string;
  createContext(options: object): Promise<{ getSequence(): Sequence }>;
}

interface Llama {
  readonly llamaCppRelease: { readonly repo: string; readonly release: string };
  loadModel(options: { readonly modelPath: string }): Promise<Model>;
  dispose(): Promise<void>;
}

interface LlamaModule {
  getLlama(options: object): Promise<Llama>;
}

/** Throws KvferryError: unsupported (node-llama-cpp or its binary is not here; KV of another kind), invalid_argument (no model that loads). */
export async function openRuntime({ modelPath, contextTokens, sequences, log }: RuntimeOptions): Promise<Runtime> {
  if (!existsSync(modelPath)) throw new KvferryError("invalid_argument", `there is no model at ${modelPath}`);
  const llama = await openLlama(log);
  const [model, sha256] = await Promise.all([loadModel(llama, modelPath), fileSha256(modelPath)]);
  const context = await model.createContext({
    contextSize: contextTokens,
    threads: THREADS,
    batchSize: BATCH_TOKENS,
    sequences,
    flashAttention: false,
    experimentalKvCacheKeyType: KV_ELEMENT,
    experimentalKvCacheValueType: KV_ELEMENT,
  });
  const opened = Array.from({ length: sequences }, () => context.getSequence());
  const stateShape = await probe(opened[0] as Sequence, model.tokenize("a", false));
  const { metadata } = model.fileInfo;
  const { repo, release } = llama.llamaCppRelease;
  return {
    identity: {
      model: metadata.general.name ?? basename(modelPath),
      revision: `sha256:${sha256}`,
      element: KV_ELEMENT.toLowerCase(),
      rope: ropeOf(metadata),
      profile: "",
      // KV of other builds, KV types or kernels is not what this one would have computed.
      extra: `${repo} ${release}, K ${KV_ELEMENT}, V ${KV_ELEMENT}, no flash attention`,
    },
    kv: kvShapeOf(metadata, stateShape),
    stateShape,
    contextTokens,
    description: `${basename(modelPath)}, llama.cpp ${release}, ${THREADS} thread`,
    sequences: opened.map((sequence) => sequenceVerbs(sequence, stateShape)),
    tokenize: (text) => model.tokenize(text, true),
    detokenize: (tokens) => model.detokenize(tokens),
    close: () => llama.dispose(),
  };
}

/** What this context's states look like, from one: found out before there is a request, and by name where it is not understood. */
async function probe(sequence: Sequence, tokens: readonly number[]): Promise<StateShape> {
  await sequence.evaluateWithoutGeneratingNewTokens(tokens);
  const { shape } = await saved(sequence);
  await sequence.clearHistory();
  return shape;
}

function saved(sequence: Sequence): Promise<SequenceState> {
  return withStateFile(async (path) => {
    await sequence.saveStateToFile(path);
    return parseState(readStateFile(path));
  });
}

function sequenceVerbs(sequence: Sequence, shape: StateShape): RuntimeSequence {
  return {
    async prefill(tokens) {
      await sequence.clearHistory();
      await sequence.evaluateWithoutGeneratingNewTokens(tokens);
    },
    async resume(state, tokens) {
      const count = state.tokens.length;
      // llama.cpp ends the process for a state that does not fit its cache, so that none may reach it.
      if (!sameShape(state.shape, shape) || count > tokens.length || state.tokens.some((token, index) => token !== tokens[index])) {
        throw new KvferryError("invalid_argument", `a state of ${count} tokens that is none of the first of these ${tokens.length}`);
      }
      await sequence.clearHistory();
      await withStateFile(async (path) => {
        writeStateFile(path, state.bytes);
        await sequence.loadStateFromFile(path, { acceptRisk: true });
      });
      if (count < tokens.length) await sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(count));
    },
    save: () => saved(sequence),
    async decode(last, count, onToken) {
      let made = 0;
      for await (const token of sequence.evaluate([last], { temperature: 0 })) {
        onToken(token);
        if (++made === count) break;
      }
    },
  };
}

async function openLlama(log: (line: string) => void): Promise<Llama> {
  // Not a literal, so that the type checker does not look for what only this engine installs.
  const name: string = "node-llama-cpp";
  let module: LlamaModule;
  try {
    module = (await import(name)) as LlamaModule;
  } catch (cause) {
    throw new KvferryError("unsupported", "node-llama-cpp is not installed in engines/llama; `npm run demo` does that", { cause });
  }
  try {
    const logger = (level: string, message: string): void => log(`llama.cpp ${level}: ${message.trim()}`);
    return await module.getLlama({ gpu: false, build: "never", logLevel: "error", logger, maxThreads: THREADS });
  } catch (cause) {
    throw new KvferryError("unsupported", "node-llama-cpp has no binary that runs on this host", { cause });
  }
}

async function loadModel(llama: Llama, modelPath: string): Promise<Model> {
  try {
    return await llama.loadModel({ modelPath });
  } catch (cause) {
    throw new KvferryError("invalid_argument", `llama.cpp cannot load ${modelPath}`, { cause });
  }
}

async function fileSha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(piece as Buffer);
  return hash.digest("hex");
}
