/** What the demo needs: vLLM and a model in the cache folder. engines/vllm/install.sh brings them; here it is run and watched. */
import { join } from "node:path";
import { findVllm, VLLM_VERSION, type VllmPlace } from "../../../bench/engines/vllm.ts";
import { MissingError, type Progress, run } from "../../demo/install.ts";
import { ROOT } from "../../demo/processes.ts";

export async function install(progress: Progress): Promise<VllmPlace> {
  const what = `vLLM ${VLLM_VERSION} for CPUs`;
  try {
    const place = findVllm();
    progress(what, "is here", true);
    return place;
  } catch {
    // Then it is installed.
  }
  const script = join(ROOT, "engines", "vllm", "install.sh");
  const { code, output } = await run(ROOT, "bash", [script], (seconds) =>
    progress(what, `installing (600 MB to download, 2 to 12 minutes), ${seconds} s`, false),
  );
  if (code !== 0) throw new MissingError(`npm run engines:install failed:\n${output}`);
  progress(what, "installed", true);
  return findVllm();
}
