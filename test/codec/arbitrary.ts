/** Random profiles: any components with any parameters, and those among them that fit together. */
import * as fc from "fast-check";
import { COMPONENTS, type Component, type Parameter, type Stage } from "../../transport/codec/components.ts";
import { misfitOf } from "../../transport/codec/fit.ts";
import type { Pipeline, Profile } from "../../transport/codec/profile.ts";

export interface ProfileBounds {
  /** Lists by layer and by head have these lengths. */
  readonly layers: number;
  readonly heads: number;
  readonly tileLayersMax: number;
}

function parameterValue(parameter: Parameter, { layers, heads }: ProfileBounds): fc.Arbitrary<unknown> {
  switch (parameter.type) {
    case "choice":
      return fc.constantFrom(...parameter.choices);
    case "integer":
      return fc.integer({ min: parameter.low, max: parameter.high });
    case "number":
      return fc.double({ min: parameter.low, max: parameter.high, noNaN: true });
    case "layers":
      return fc.uniqueArray(fc.nat(layers - 1)).map((list) => list.sort((one, other) => one - other));
    case "file":
      return fc.nat().map((seed) => seed.toString(16).padStart(64, "0"));
    case "factors": {
      const factor = fc.double({ min: parameter.low, max: parameter.high, noNaN: true });
      return fc.oneof(fc.constant([]), fc.array(factor, { minLength: layers, maxLength: layers }));
    }
    case "levels": {
      const level = fc.integer({ min: parameter.low, max: parameter.high });
      const byLayer = fc.array(level, { minLength: layers, maxLength: layers });
      const byHead = fc.array(fc.array(level, { minLength: heads, maxLength: heads }), { minLength: layers, maxLength: layers });
      return fc.oneof(level, byLayer, byHead);
    }
  }
}

function component({ kind, parameters }: Component, bounds: ProfileBounds): fc.Arbitrary<unknown> {
  const values = Object.entries(parameters).map(([key, parameter]) => [key, parameterValue(parameter, bounds)] as const);
  return fc.record({ kind: fc.constant(kind), ...Object.fromEntries(values) });
}

const oneOf = (stage: Stage, bounds: ProfileBounds): fc.Arbitrary<unknown> =>
  fc.oneof(...COMPONENTS[stage].map((one) => component(one, bounds)));

/** Components in their order; most do not fit together. */
function pipeline(bounds: ProfileBounds): fc.Arbitrary<Pipeline> {
  const transforms = COMPONENTS.transform.map((one) => fc.option(component(one, bounds), { nil: undefined }));
  return fc.record({
    transform: fc.oneof(
      fc.constant([]),
      fc.tuple(...transforms).map((all) => all.filter((one) => one !== undefined)),
    ),
    quantizer: oneOf("quantizer", bounds),
    codec: oneOf("codec", bounds),
  }) as fc.Arbitrary<Pipeline>;
}

/** As a file may have them; most do not fit together. */
export function anyProfile(bounds: ProfileBounds): fc.Arbitrary<Profile> {
  return fc.record({
    version: fc.constant(1 as const),
    exempt: fc.integer({ min: 0, max: 8 }),
    layers: fc.integer({ min: 1, max: bounds.tileLayersMax }),
    merge: fc.option(component(COMPONENTS.merge.at(-1)!, bounds), { nil: undefined }),
    k: pipeline(bounds),
    v: pipeline(bounds),
  }) as fc.Arbitrary<Profile>;
}

/** Each half is drawn until it fits, so that all that fits comes up. */
export function fittingProfile(bounds: ProfileBounds): fc.Arbitrary<Profile> {
  const half = (side: "k" | "v"): fc.Arbitrary<Profile> =>
    anyProfile(bounds).filter((profile) => misfitOf({ ...profile, [side === "k" ? "v" : "k"]: PLAIN }) === "");
  return fc.tuple(half("k"), half("v")).map(([one, other]) => ({ ...one, v: other.v, layers: Math.min(one.layers, other.layers) }));
}

const PLAIN: Pipeline = { transform: [], quantizer: { kind: "none" }, codec: { kind: "none" } };
