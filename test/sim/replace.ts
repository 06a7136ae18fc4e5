/** Replaces one method of a class for a while; the new one gets the old one. Nothing in production code knows of it. */
export function replace<Class extends { prototype: object }, Name extends keyof Class["prototype"] & string>(
  target: Class,
  name: Name,
  make: (original: Class["prototype"][Name]) => Class["prototype"][Name],
): () => void {
  const prototype = target.prototype as Class["prototype"];
  const original = prototype[name];
  prototype[name] = make(original);
  return () => {
    prototype[name] = original;
  };
}
