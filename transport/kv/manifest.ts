/** What a transfer moves: content, without places. PURE. */

export interface ManifestGroup {
  /** Index of the group in both layouts (groups correspond by position; their block sizes may differ). */
  readonly group: number;
  /** Tokens moved; for a state group the number of state blocks. The last block may be partly filled. */
  readonly tokens: number;
}

export interface Manifest {
  /** Hex SHA-256 over what makes the content comparable (identity.ts); both ends must have the same. */
  readonly fingerprint: string;
  readonly groups: readonly ManifestGroup[];
  /** KV heads moved, in the model's numbering; both slices must hold them. */
  readonly firstHead: number;
  readonly heads: number;
}
