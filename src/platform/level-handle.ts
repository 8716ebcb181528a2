// The ordered key-value store that the outbox stands on, whoever provides it: LevelDB, or memory.

/** `value: undefined` deletes. */
export interface LevelWrite {
  readonly key: Buffer;
  readonly value: Uint8Array | undefined;
}

export interface LevelRange {
  readonly gte?: Buffer;
  readonly lt?: Buffer;
  readonly reverse?: boolean;
  readonly limit?: number;
}

export interface LevelEntry {
  readonly key: Buffer;
  readonly value: Buffer;
}

/** Ordered keys and values. Every method rejects with whatever the store below says; callers map it. */
export interface LevelHandle {
  /** All or nothing; with `sync` durable, names of new files included, before it resolves. */
  write(writes: readonly LevelWrite[], options: { readonly sync: boolean }): Promise<void>;
  get(key: Buffer): Promise<Buffer | undefined>;
  entries(range: LevelRange): AsyncIterable<LevelEntry>;
  keys(range: LevelRange): AsyncIterable<Buffer>;
  /** What is in memory and the log alone becomes a table. Failures show at the next write. */
  flush(): Promise<void>;
  /** Gives the space of deleted entries from `first` to `last` back; runs beside other calls. Failures show at the next write. */
  compact(first: Buffer, last: Buffer): Promise<void>;
  /** Idempotent. */
  close(): Promise<void>;
}

export interface LevelTuning {
  /** Log data gathered in memory before it becomes a table; up to twice this is held. */
  readonly writeBufferBytes: number;
  readonly cacheBytes: number;
  /** Size of the tables that compaction makes. */
  readonly tableBytes: number;
}

export type LevelFactory = (directory: string, tuning: LevelTuning) => Promise<LevelHandle>;
