/**
 * llama.cpp behind the few verbs that an engine beside kvferry needs: load, tokenize, prefill, save and restore a sequence's state,
 * decode. node-llama-cpp is imported when it is needed and described here by what is used of it, so that this file compiles where it is
 * not installed.
 */
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { basename } from "node:path";
import { KvferryError, type ModelIdentity } from "./kvferry.ts";

export interface RuntimeOptions {
  /** Path of a GGUF file. */
  readonly modelPath: string;
  readonly contextTokens: number;
  /** Where llama.cpp's own messages go. */
  readonly log: (line: string) => void;
}

export interface Runtime {
  readonly identity: ModelIdentity;
  /** For people: which model, which llama.cpp. */
  readonly description: string;
  /** Markers such as <|im_start|> become their tokens. */
  tokenize(text: string): number[];
  detokenize(tokens: readonly number[]): string;
  /** Forgets everything, then evaluates all tokens but the last: the last one is what a decode begins with. */
  prefill(tokens: readonly number[]): Promise<void>;
  save(path: string): Promise<void>;
  /** Forgets everything, then loads; the file must be of the same model and build, which the fingerprint has made sure of. */
  restore(path: string): Promise<void>;
  /** The tokens whose KV the sequence holds. */
  held(): readonly number[];
  /** Evaluates `last` and continues greedily; `onToken` sees each new token as it comes. Ends early at the model's end mark. */
  decode(last: number, count: number, onToken: (token: number) => void): Promise<void>;
  close(): Promise<void>;
}

/** Two threads on shared cores wait for each other in busy loops and are slower than one. */
const THREADS = 1;
/** Part of the arithmetic: sums come out the same only in batches of the same shape. */
const BATCH_TOKENS = 512;
const KV_ELEMENT = "F16";

interface Sequence {
  readonly contextTokens: readonly number[];
  clearHistory(): Promise<void>;
  evaluateWithoutGeneratingNewTokens(tokens: readonly number[]): Promise<void>;
  evaluate(tokens: readonly number[], options: { readonly temperature: number }): AsyncGenerator<number, void, void>;
  saveStateToFile(path: string): Promise<{ readonly fileSize: number }>;
  loadStateFromFile(path: string, options: { readonly acceptRisk: true }): Promise<void>;
}

interface Model {
  readonly fileInfo: {
    readonly metadata: {
      readonly general: { readonly name?: string };
      readonly llama?: { readonly rope?: { readonly freq_base?: number } };
    };
  };
  tokenize(text: string, specialTokens: boolean): number[];
  detokenize(tokens: readonly number[]): string;
  createContext(options: object): Promise<{ getSequence(): Sequence }>;
}

interface Llama {
  readonly llamaCppRelease: { readonly release: string };
  loadModel(options: { readonly modelPath: string }): Promise<Model>;
  dispose(): Promise<void>;
}

interface LlamaModule {
  getLlama(options: object): Promise<Llama>;
}

/** Throws KvferryError: unsupported (node-llama-cpp or its binary is not here), invalid_argument (the file is no model that loads). */
export async function openRuntime({ modelPath, contextTokens, log }: RuntimeOptions): Promise<Runtime> {
  if (!existsSync(modelPath)) throw new KvferryError("invalid_argument", `there is no model at ${modelPath}`);
  const llama = await openLlama(log);
  const [model, sha256] = await Promise.all([loadModel(llama, modelPath), fileSha256(modelPath)]);
  const context = await model.createContext({
    contextSize: contextTokens,
    threads: THREADS,
    batchSize: BATCH_TOKENS,
    sequences: 1,
    flashAttention: false,
    experimentalKvCacheKeyType: KV_ELEMENT,
    experimentalKvCacheValueType: KV_ELEMENT,
  });
  const sequence = context.getSequence();
  const { general, llama: architecture } = model.fileInfo.metadata;
  const identity: ModelIdentity = {
    model: general.name ?? basename(modelPath),
    revision: `sha256:${sha256}`,
    element: KV_ELEMENT.toLowerCase(),
    rope: `base ${architecture?.rope?.freq_base ?? "default"}`,
    profile: "",
    extra: `llama.cpp ${llama.llamaCppRelease.release} sequence state, no flash attention`,
  };
  return {
    identity,
    description: `${basename(modelPath)}, llama.cpp ${llama.llamaCppRelease.release}, ${THREADS} thread`,
    tokenize: (text) => model.tokenize(text, true),
    detokenize: (tokens) => model.detokenize(tokens),
    ...sequenceVerbs(sequence),
    close: () => llama.dispose(),
  };
}

function sequenceVerbs(sequence: Sequence): Pick<Runtime, "prefill" | "save" | "restore" | "held" | "decode"> {
  return {
    async prefill(tokens) {
      await sequence.clearHistory();
      await sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(0, -1));
    },
    async save(path) {
      await sequence.saveStateToFile(path);
    },
    async restore(path) {
      await sequence.clearHistory();
      await sequence.loadStateFromFile(path, { acceptRisk: true });
    },
    held: () => sequence.contextTokens,
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
