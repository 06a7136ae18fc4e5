/**
 * Loaded before a program that is profiled (node --import): gives each call into the addon a frame of this file. V8 counts time in native code
 * as its caller's, and a caller that also packs arguments and reads results would hide one behind the other.
 */
import { native } from "../transport/native.ts";

type Constructor = new (...args: never[]) => object;
type Method = (...args: unknown[]) => unknown;

if (native !== undefined) {
  const addon = native as unknown as Record<"NativeMover" | "NativeJobs", Constructor>;
  addon.NativeMover = withFrames(addon.NativeMover);
  addon.NativeJobs = withFrames(addon.NativeJobs);
}

/** The same class, whose methods are called from here. */
function withFrames(Base: Constructor): Constructor {
  const Framed = class extends Base {};
  for (const name of Object.getOwnPropertyNames(Base.prototype)) {
    const method = (Base.prototype as Record<string, unknown>)[name];
    if (name === "constructor" || typeof method !== "function") continue;
    Object.defineProperty(Framed.prototype, name, { value: framed(method as Method) });
  }
  return Framed;
}

/** As many arguments as any method has, by name: a list of them would be allocated for each call, and counted here. */
function framed(method: Method): Method {
  return function inAddon(this: unknown, a, b, c, d, e, f, g, h, i) {
    return method.call(this, a, b, c, d, e, f, g, h, i);
  };
}
