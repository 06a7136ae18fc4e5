/** Settings on the command line: a flag for each field, and the flags back to an object. */
import { Option } from "commander";
import type { Field } from "../config/layers.ts";

/** A setting as a flag. */
export function optionOf(field: Field, preset: string): Option {
  const boolean = field.what === "true or false";
  const option = new Option(
    `${field.flag} ${boolean ? "[value]" : "<value>"}`,
    `${field.text} [${field.what}; default: ${preset || "none"}; env: ${field.variable}]`,
  );
  return boolean ? option.preset("true") : option;
}

/** Commander's camel-cased options back to the fields' paths. */
export function flagsOf(fields: readonly Field[], options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const flags: Record<string, unknown> = {};
  for (const { path, flag } of fields) {
    const name = flag.slice(2).replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
    const value = options[name];
    if (value === undefined) continue;
    const [outer, inner] = path.split(".") as [string, string?];
    if (inner === undefined) flags[outer] = value;
    else flags[outer] = { ...(flags[outer] as object | undefined), [inner]: value };
  }
  return flags;
}
