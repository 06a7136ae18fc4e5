/** Flags of this very Node that a child needs to run the same code: loaders, and nothing that would run something else. */

export function loaderFlags(execArgv: readonly string[] = process.execArgv): string[] {
  const kept: string[] = [];
  execArgv.forEach((flag, index) => {
    if (/^--(?:import|require|loader|experimental-loader)=/.test(flag)) kept.push(flag);
    else if (/^(?:--import|--require|-r|--loader|--experimental-loader)$/.test(flag)) kept.push(flag, execArgv[index + 1]!);
  });
  return kept;
}
