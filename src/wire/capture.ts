// Captures: the raw bytes of a device's wire with their times, one JSON object a line, so that what a site sends can be
// looked at and played through the same decoder elsewhere:
//
//   {"t":0,"dir":"tx","hex":"010300000002c40b"}
//   {"t":12.5,"dir":"rx","hex":"01030443668000de2a"}
//
// `t` is ms since the capture began, `tx` what the gateway sent, `rx` what it received. Lines that begin with # are notes.

import { createWriteStream, type WriteStream } from 'node:fs';
import { readFile, rename, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { Clock } from '../core/clock.ts';
import { errorText, GatewayError, systemCode } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';
import { makeDirectory } from '../platform/files.ts';

export interface CaptureRecord {
  /** Ms since the capture began. */
  readonly atMs: number;
  /** `tx`: sent by the gateway; `rx`: received. */
  readonly direction: 'tx' | 'rx';
  readonly bytes: Buffer;
}

export interface CaptureOptions {
  readonly path: string;
  /** The file ends before it would be larger. Default and most: LIMITS.capture_bytes. */
  readonly maxBytes?: number;
  readonly clock: Clock;
  /** Told once when the file cannot be written, or is full: nothing more is recorded then. */
  readonly onEnd: (reason: string) => void;
}

const HEX_PATTERN = /^(?:[0-9a-f]{2})+$/i;

/** Where a capture is: `name` in the folder for captures, unless it is an absolute path. */
export function capturePath(folder: string, name: string): string {
  return resolve(folder, name);
}

/** Writes one capture. A file that was there before is kept as `PATH.previous`. */
export class CaptureWriter {
  readonly #options: CaptureOptions;
  readonly #startMs: number;
  readonly #maxBytes: number;
  #stream: WriteStream | undefined;
  #bytes = 0;
  #isOver = false;

  private constructor(options: CaptureOptions) {
    this.#options = options;
    this.#startMs = options.clock.monotonicMs();
    this.#maxBytes = Math.min(options.maxBytes ?? LIMITS.capture_bytes, LIMITS.capture_bytes);
  }

  /** Begins a capture. Never throws: a capture that cannot be written must not keep a device from being read. */
  static async open(options: CaptureOptions): Promise<CaptureWriter> {
    const writer = new CaptureWriter(options);
    try {
      await makeDirectory(dirname(options.path));
      await rename(options.path, `${options.path}.previous`).catch((error: unknown) => {
        if (systemCode(error) !== 'ENOENT') throw error;
      });
      writer.#stream = createWriteStream(options.path, { mode: 0o640 });
      writer.#stream.on('error', (error) => writer.#end(`${options.path}: ${errorText(error)}.`));
    } catch (error) {
      writer.#end(`${options.path}: ${errorText(error)}.`);
    }
    return writer;
  }

  /** Bytes written or waiting to be. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Records bytes that were sent or received now. Waits for nothing. */
  record(direction: CaptureRecord['direction'], bytes: Uint8Array): void {
    const stream = this.#stream;
    if (stream === undefined || this.#isOver || bytes.length === 0) return;
    const { clock, path } = this.#options;
    const line = captureLine({
      atMs: clock.monotonicMs() - this.#startMs,
      direction,
      bytes: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    });
    if (this.#bytes + line.length > this.#maxBytes) return this.#end(`${path} has reached ${this.#maxBytes} bytes.`);
    if (stream.writableLength > LIMITS.capture_waiting_bytes) return this.#end(`${path}: the disk is too slow.`);
    this.#bytes += line.length;
    stream.write(line);
  }

  /** Resolves when everything recorded is in the file. Idempotent. */
  async close(): Promise<void> {
    this.#isOver = true;
    const stream = this.#stream;
    this.#stream = undefined;
    if (stream === undefined) return;
    await new Promise<void>((resolve) => {
      stream.once('close', () => resolve());
      stream.end();
    });
  }

  #end(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stream?.end();
    this.#options.onEnd(reason);
  }
}

/** One record as a line of the file. */
export function captureLine({ atMs, direction, bytes }: CaptureRecord): string {
  return `{"t":${Math.round(atMs * 10) / 10},"dir":"${direction}","hex":"${bytes.toString('hex')}"}\n`;
}

/**
 * The records of a capture in the order of the file. A last line that was cut off, as a power cut leaves it, is left out.
 * @param file what faults call it
 * @throws GatewayError GW_CAPTURE_INVALID with `file:line: what is wrong`.
 */
export function parseCapture(text: string, file: string): CaptureRecord[] {
  const lines = text.split('\n');
  const records: CaptureRecord[] = [];
  for (const [index, line] of lines.entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const record = parseLine(line);
    if (typeof record === 'object') records.push(record);
    else if (index < lines.length - 1) throw new GatewayError('GW_CAPTURE_INVALID', `${file}:${index + 1}: ${record}`);
  }
  return records;
}

/** The record, or what is wrong with the line. */
function parseLine(line: string): CaptureRecord | string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return 'is not JSON; a line of a capture is {"t":12.5,"dir":"rx","hex":"0103…"}.';
  }
  if (typeof value !== 'object' || value === null) return 'must be an object with t, dir and hex.';
  const { t, dir, hex } = value as { t?: unknown; dir?: unknown; hex?: unknown };
  if (typeof t !== 'number' || !(t >= 0)) return 't must be ms since the start, 0 or more.';
  if (dir !== 'rx' && dir !== 'tx') return 'dir must be "rx" or "tx".';
  if (typeof hex !== 'string' || !HEX_PATTERN.test(hex)) return 'hex must be bytes in hexadecimal, two digits each.';
  return { atMs: t, direction: dir, bytes: Buffer.from(hex, 'hex') };
}

/** Reads a capture. @throws GatewayError GW_CAPTURE_INVALID when it is absent, larger than LIMITS.capture_bytes, or no capture. */
export async function readCapture(path: string): Promise<CaptureRecord[]> {
  let text: string;
  try {
    const { size } = await stat(path);
    if (size > LIMITS.capture_bytes) {
      throw new GatewayError('GW_CAPTURE_INVALID', `${path} has ${size} bytes; the most is ${LIMITS.capture_bytes}.`);
    }
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof GatewayError) throw error;
    throw new GatewayError('GW_CAPTURE_INVALID', `The capture ${path} cannot be read: ${errorText(error)}.`, {
      cause: error,
    });
  }
  return parseCapture(text, path);
}
