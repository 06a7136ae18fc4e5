/** The JSON schema of a profile, made from the list of components: schemas/profile.schema.json. What fits together is said by `fit.ts` alone. PURE. */
import { limits } from "../limits.ts";
import { type Component, COMPONENTS, type Parameter, type Stage } from "./components.ts";

type Schema = Readonly<Record<string, unknown>>;

/** `kvferry codec list --schema` prints it. */
export function profileSchemaText(): string {
  const schema = {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "kvferry.profile/1",
    description: "How KV is compressed: kvferry codec. Which parts fit together is checked when a profile is read, and said in words.",
    ...object(
      {
        version: { const: 1 },
        exempt: exempt(),
        layers: layers(),
        merge: merge(),
        k: { $ref: "#/$defs/pipeline" },
        v: { $ref: "#/$defs/pipeline" },
      },
      ["k", "v"],
    ),
    $defs: {
      pipeline: pipeline(),
      merge: oneOf("merge"),
      transform: oneOf("transform"),
      quantizer: oneOf("quantizer"),
      codec: oneOf("codec"),
    },
  };
  return `${JSON.stringify(schema, null, 2)}\n`;
}

function exempt(): Schema {
  const description = "first tokens of a sequence that travel as they are wherever something is lost";
  return { type: "integer", minimum: 0, maximum: limits.codecExemptMax, default: 4, description };
}

function layers(): Schema {
  return { type: "integer", minimum: 1, maximum: limits.codecLayersMax, default: 1, description: "layers of a tile" };
}

function merge(): Schema {
  return { $ref: "#/$defs/merge", default: { kind: "none" } };
}

function pipeline(): Schema {
  const items = { $ref: "#/$defs/transform" };
  const order = COMPONENTS.transform.map(({ kind }) => kind).join(", ");
  return object(
    {
      transform: {
        type: "array",
        items,
        maxItems: COMPONENTS.transform.length,
        default: [],
        description: `each once, in this order: ${order}`,
      },
      quantizer: { $ref: "#/$defs/quantizer", default: { kind: "none" } },
      codec: { $ref: "#/$defs/codec", default: { kind: "none" } },
    },
    [],
  );
}

function oneOf(stage: Stage): Schema {
  return { oneOf: COMPONENTS[stage].map(component) };
}

function component({ kind, help, parameters }: Component): Schema {
  const own = Object.fromEntries(Object.entries(parameters).map(([key, one]) => [key, parameter(one)]));
  return { description: help, ...object({ kind: { const: kind }, ...own }, ["kind"]) };
}

function parameter(one: Parameter): Schema {
  const { preset, help: description } = one;
  if (one.type === "choice") return { enum: one.choices, default: preset, description };
  if (one.type === "file") return { type: "string", minLength: 1, description };
  if (one.type === "layers") {
    const items = { type: "integer", minimum: 0, maximum: limits.layersMax - 1 };
    return { type: "array", items, maxItems: limits.layersMax, uniqueItems: true, default: preset, description };
  }
  const number = { type: one.type === "number" || one.type === "factors" ? "number" : "integer", minimum: one.low, maximum: one.high };
  const list = (items: Schema, minItems: number, maxItems: number): Schema => ({ type: "array", items, minItems, maxItems });
  if (one.type === "factors") return { ...list(number, 0, limits.layersMax), default: preset, description };
  if (one.type !== "levels") return { ...number, default: preset, description };
  const byHead = list(list(number, 1, limits.headsMax), 1, limits.layersMax);
  return { anyOf: [number, list(number, 1, limits.layersMax), byHead], default: preset, description };
}

function object(properties: Schema, required: readonly string[]): Schema {
  return { type: "object", properties, required, additionalProperties: false };
}
