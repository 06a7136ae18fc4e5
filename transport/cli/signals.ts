/** The signals that end a server in order. */

/** Resolves at the first signal. From then on a second one ends the process as signals do. */
export function signalled(): Promise<void> {
  return new Promise((resolve) => {
    let seen = false;
    const handle = (signal: NodeJS.Signals): void => {
      if (seen) process.exit(signal === "SIGINT" ? 130 : 143);
      seen = true;
      resolve();
    };
    process.on("SIGINT", handle).on("SIGTERM", handle);
  });
}
