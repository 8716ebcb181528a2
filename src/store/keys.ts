// Keys of the log store. Everything that is written with a commit is keyed by its offset, whatever it is: keys then only
// grow, so that LevelDB's tables never overlap while a backlog builds up and each byte is written twice (log and table)
// instead of three times and more. src/store/README.md has the table.

/** What stands at an offset, in the order in which recovery applies it. */
export const RECORD = { snapshot: 0, checkpoint: 1, chunk: 2, references: 3, stream: 4 } as const;
export type RecordKind = (typeof RECORD)[keyof typeof RECORD];

const META = 0x00;
const LOG = 0x10;
const QUARANTINE = 0x20;

export interface LogKey {
  readonly offset: number;
  readonly kind: number;
  /** Queue of `references`, stream of `stream`, else 0. */
  readonly ownerId: number;
}

function offsetKey(area: number, offset: number, tailBytes: number): Buffer {
  const key = Buffer.alloc(9 + tailBytes);
  key[0] = area;
  // Big-endian, so that byte order is number order; a safe integer has 53 bits.
  key.writeUInt32BE(Math.floor(offset / 0x1_0000_0000), 1);
  key.writeUInt32BE(offset % 0x1_0000_0000, 5);
  return key;
}

function readOffset(key: Buffer): number {
  return key.readUInt32BE(1) * 0x1_0000_0000 + key.readUInt32BE(5);
}

export function logKey(offset: number, kind: RecordKind, ownerId = 0): Buffer {
  const key = offsetKey(LOG, offset, 3);
  key[9] = kind;
  key.writeUInt16BE(ownerId, 10);
  return key;
}

/** Undefined for bytes that are not a log key: damage. */
export function parseLogKey(key: Buffer): LogKey | undefined {
  if (key.length !== 12 || key[0] !== LOG) return undefined;
  const offset = readOffset(key);
  return Number.isSafeInteger(offset) ? { offset, kind: key[9] ?? 255, ownerId: key.readUInt16BE(10) } : undefined;
}

/** The lowest key of all that stands at `offset` or above. */
export function logFrom(offset: number): Buffer {
  return offsetKey(LOG, offset, 0);
}

export const LOG_END = Buffer.from([LOG + 1]);

export function metaKey(name: 'format' | 'identity' | 'clock' | 'cleared' | 'streams'): Buffer {
  return Buffer.concat([Buffer.from([META]), Buffer.from(name, 'latin1')]);
}

export function quarantineKey(id: number): Buffer {
  return offsetKey(QUARANTINE, id, 0);
}

export function parseQuarantineKey(key: Buffer): number | undefined {
  return key.length === 9 && key[0] === QUARANTINE ? readOffset(key) : undefined;
}

export const QUARANTINE_END = Buffer.from([QUARANTINE + 1]);
