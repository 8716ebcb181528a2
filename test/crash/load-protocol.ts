// What the loaded child reports, one JSON array a line, and how bodies are made so that a checker knows each by heart.

/** `in` before an append, `ack` after it; `out` and `done` before an accepting settlement, `rejected` after one. */
export type LoadReport =
  | readonly ['opened', { readonly messages: number; readonly epoch: string; readonly openMs: number }]
  | readonly ['in', device: string, number: number, alarm: 0 | 1]
  | readonly ['ack', device: string, number: number, offset: number, seq: number]
  | readonly ['refused', device: string, number: number, code: string]
  | readonly ['out', queue: string, device: string, seq: number, epoch: string, body: string]
  | readonly ['done', queue: string, device: string, seq: number, atMs: number]
  | readonly ['rejected', queue: string, device: string, seq: number]
  | readonly ['event', event: Readonly<Record<string, unknown>>]
  /** A message of the stream, under its number. */
  | readonly ['kept', partition: number, sequence: number, device: string, seq: number, epoch: string, body: string]
  | readonly ['quarantine', queue: string, device: string, seq: number]
  | readonly ['drained']
  | readonly ['closed'];

export interface LoadSettings {
  readonly directory: string;
  /** `load` appends and drains until it is killed; `drain` drains all, lists the quarantine, and closes. */
  readonly mode: 'load' | 'drain';
  readonly seed: number;
  /** First number of each device's messages. */
  readonly firstNumber: number;
  /** Runs with a small quota and `drop_oldest`. */
  readonly evicts: boolean;
  /** Passes `sync: false` to LevelDB, to prove that the power cut notices. */
  readonly dropSync: boolean;
}

export const QUEUES = [
  { name: '$upstream', takes: 'all', order: 'live_first' },
  { name: 'events', takes: 'all', order: 'strict' },
  { name: 'alarms', takes: 'routed', order: 'strict' },
] as const;

/** Takes every message of the producers, and is over its bytes again and again. */
export const STREAM = { name: 'kept', partitions: 3, retentionSecs: 3600, maxBytes: 8 * 1024 ** 2 } as const;

export const GATEWAY_ID = 'gateway-1';

/** The body of one message: device, number, and filler that both decide. */
export function loadBody(device: string, number: number): string {
  const random = seededRandom(number * 31 + device.length * 7 + device.charCodeAt(device.length - 1));
  // Mostly small, now and then large, so that chunks of many and of one message occur.
  const chars = random() < 0.01 ? 20_000 + Math.floor(random() * 100_000) : Math.floor(random() * 800);
  let filler = '';
  while (filler.length < chars) filler += Math.floor(random() * 0xffff_ffff).toString(36);
  return `{"device":"${device}","number":${number},"filler":"${filler.slice(0, chars)}"}`;
}

/** What stands for a body in a report: long ones as number and length, once the child has seen that they are right. */
export function bodyNote(body: string): string {
  const match = /^\{"device":"([^"]+)","number":(\d+),/.exec(body);
  if (match === null) return body.slice(0, 300);
  const [, device = '', number = ''] = match;
  return body === loadBody(device, Number(number)) ? `ok ${device} ${number}` : `WRONG ${body.slice(0, 200)}`;
}

/** The same numbers for the same seed: at least 0, below 1 (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}
