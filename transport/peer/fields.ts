/** Fields of a message that has been parsed, each of its type and inside its bounds, or protocol_error. What is absent has the value that protobuf gives it. */
import { expected, integer } from "../check.ts";

export type Fields = Readonly<Record<string, unknown>>;

export function number(f: Fields, name: string, low = 0, high = 0xffffffff): number {
  const value = f[name];
  // 64-bit fields come as Long objects.
  const plain = typeof value === "object" && value !== null ? Number(String(value)) : (value ?? 0);
  return integer(plain, name, low, high, "protocol_error");
}

export function text(f: Fields, name: string, characters: number): string {
  return textOf(f[name] ?? "", name, characters);
}

export function textOf(value: unknown, name: string, characters: number): string {
  if (typeof value !== "string" || value.length > characters) {
    throw expected(`at most ${characters} characters`, name, value, "protocol_error");
  }
  return value;
}

export function bytesOf(f: Fields, name: string, most: number): Uint8Array {
  const value = f[name] ?? new Uint8Array(0);
  if (!(value instanceof Uint8Array) || value.length > most) throw expected(`at most ${most} bytes`, name, value, "protocol_error");
  return value;
}

export function list(f: Fields, name: string, most: number): readonly unknown[] {
  const value = f[name] ?? [];
  if (!Array.isArray(value) || value.length > most) throw expected(`at most ${most} entries`, name, value, "protocol_error");
  return value;
}
