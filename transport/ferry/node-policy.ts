/** A node's policy: read at the start, and again when its file changes. Who may do what changes while it runs; which tenants there are, and their memory, does not. */
import { loadPolicy, type TenantConfig } from "../config/policy-file.ts";
import { FileWatch } from "../config/watch.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { Tenancy } from "../policy/tenancy.ts";
import type { NodeObserver } from "./context.ts";

export interface NodePolicyOptions {
  readonly file: string;
  /** Of a tenant that names none of its own. */
  readonly pool: TenantConfig["pool"];
  readonly observer: NodeObserver;
}

export class NodePolicy {
  readonly tenants: readonly TenantConfig[];
  readonly #options: NodePolicyOptions;
  #tenancy: Tenancy;
  #watch: FileWatch<readonly TenantConfig[]> | undefined;

  /** Throws KvferryError (invalid_config). */
  constructor(options: NodePolicyOptions) {
    this.#options = options;
    this.tenants = this.#load();
    this.#tenancy = new Tenancy(this.tenants);
  }

  /** As it is now. */
  get tenancy(): Tenancy {
    return this.#tenancy;
  }

  /** @param onChanged another one is in force */
  watch(onChanged: () => void, pollMs: number = limits.filesPollMs): void {
    const { file, observer } = this.#options;
    const onBroken = (error: KvferryError): void => observer.policy?.(error);
    const onLoaded = (tenants: readonly TenantConfig[]): void => {
      const restart = needsRestart(this.tenants, tenants);
      if (restart !== "") return onBroken(new KvferryError("invalid_config", `policy: ${restart} (${file}); that takes a restart`));
      this.#tenancy = new Tenancy(tenants);
      observer.policy?.({ tenants: this.#tenancy.names });
      onChanged();
    };
    this.#watch = new FileWatch({ paths: [file], pollMs, load: () => this.#load(), onLoaded, onBroken });
  }

  /** Reads the file now. */
  reload(): void {
    this.#watch?.reload();
  }

  close(): void {
    this.#watch?.close();
  }

  #load(): readonly TenantConfig[] {
    return loadPolicy(this.#options.file, this.#options.pool);
  }
}

/** What of it cannot change while the node runs, in words; "": nothing. */
function needsRestart(before: readonly TenantConfig[], after: readonly TenantConfig[]): string {
  for (const { name } of after) if (!before.some((tenant) => tenant.name === name)) return `tenant ${name} is new`;
  for (const { name, socket, pool } of before) {
    const now = after.find((tenant) => tenant.name === name);
    if (now === undefined) return `tenant ${name} is gone`;
    if (now.socket !== socket) return `tenant ${name} has another socket`;
    if (now.pool.bytes !== pool.bytes || now.pool.blockBytes !== pool.blockBytes) return `tenant ${name} has another pool`;
  }
  return "";
}
