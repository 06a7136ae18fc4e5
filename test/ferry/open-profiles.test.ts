/**
 * Profiles of a configuration that transfers cannot use: said once with the reason and left out, the others stay.
 * Method: profiles in files, opened as a node does when it starts.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { openProfiles } from "../../transport/ferry/open-profiles.ts";
import { nvcompProblem } from "../../transport/native-device.ts";
import { native, nativeProblem } from "../../transport/native.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const folder = mkdtempSync(join(tmpdir(), "kvferry-open-profiles-"));
after(() => rmSync(folder, { recursive: true }));

test("nvCOMP's codecs are left out, whatever this host has, and no peer's Bitcomp is ever decoded", { skip }, async () => {
  const paths = ["nvcomp-ans", "nvcomp-bitcomp"].map((kind) => {
    const path = join(folder, `${kind}.json`);
    writeFileSync(path, JSON.stringify({ k: {}, v: { quantizer: { kind: "fp8" }, codec: { kind } } }));
    return path;
  });
  const said: string[][] = [];
  const open = (profiles: readonly string[]) =>
    openProfiles({ codec: { profiles, calibration: [], use: "auto", acceptLossy: false }, ioThreads: 1 }, "tcp", {
      profileMissing: (...one) => said.push(one),
    });
  const profiles = await open([...paths, "lossless"]);
  assert.deepEqual([profiles.missing, profiles.isNone], [undefined, false]);
  const problem = nvcompProblem(native?.cuda());
  const ans =
    problem === "" ? "nvcomp-ans codes in GPUs' memory, and transfers in the host's" : `nvcomp-ans needs nvCOMP and a GPU: ${problem}`;
  const bitcomp = "a harmed stream of nvcomp-bitcomp overwrites anything, so that no peer's is decoded";
  assert.deepEqual(said, [
    [paths[0], "", ans],
    [paths[1], "", bitcomp],
  ]);
  assert.equal((await open(paths)).missing, "codec_missing");
});
