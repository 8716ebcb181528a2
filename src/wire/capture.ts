// Captures: the raw bytes of a device's wire with their times, one JSON object a line, so that what a site sends can be
// looked at and played through the same decoder elsewhere:
//
//   {"t":0,"dir":"tx","hex":"010300000002c40b"}
//   {"t":12.5,"dir":"rx","hex":"01030443668000de2a"}
//
// `t` is ms since the capture began, `tx` what the gateway sent, `rx` what it received. Lines that begin with # are notes.
// A capture outlives its adapter: the next start goes on in the same file, until that is full, and nothing recorded is ever
// deleted.

import { createWriteStream, type WriteStream } from 'node:fs';
import { open, readFile, stat, type FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { Clock } from '../core/clock.ts';
import { errorText, GatewayError } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';
import { isoTime } from '../core/time.ts';
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

/** Of the time between two runs only so much is kept: enough that what one had cut off does not run into the next. */
const PAUSE_MS = 1000;
/** How much of the end of a file is looked at first. */
const TAIL_BYTES = 65_536;
const MODE = 0o640;
const LINE_START = '{"t":';
const NEWLINE = 0x0a;
const HEX_PATTERN = /^(?:[0-9a-f]{2})+$/i;

/** Where a capture is: `name` in the folder for captures, unless it is an absolute path. */
export function capturePath(folder: string, name: string): string {
  return resolve(folder, name);
}

/** Writes one capture, behind what its file holds already. */
export class CaptureWriter {
  readonly #options: CaptureOptions;
  readonly #maxBytes: number;
  /** Monotonic ms at which `t` is 0. */
  #startMs: number;
  #stream: WriteStream | undefined;
  #closed: Promise<void> = Promise.resolve();
  #bytes = 0;
  #isOver = false;

  private constructor(options: CaptureOptions) {
    this.#options = options;
    this.#startMs = options.clock.monotonicMs();
    this.#maxBytes = Math.min(options.maxBytes ?? LIMITS.capture_bytes, LIMITS.capture_bytes);
  }

  /** Begins or continues a capture. Never throws: one that cannot be written must not keep a device from being read. */
  static async open(options: CaptureOptions): Promise<CaptureWriter> {
    const writer = new CaptureWriter(options);
    try {
      await writer.#open();
    } catch (error) {
      writer.#end(error instanceof GatewayError ? error.message : `${options.path}: ${errorText(error)}.`);
    }
    return writer;
  }

  async #open(): Promise<void> {
    const { path, clock } = this.#options;
    await makeDirectory(dirname(path));
    const { bytes, lastMs } = await endOf(path);
    this.#bytes = bytes;
    const stream = createWriteStream(path, { mode: MODE, flags: 'a' });
    this.#stream = stream;
    // Listened to from the first moment on: a stream that has ended by itself does not tell it again.
    this.#closed = new Promise((resolve) => void stream.once('close', resolve));
    stream.on('error', (error) => this.#end(`${path}: ${errorText(error)}.`));
    if (lastMs === undefined) return;
    this.#startMs -= lastMs + PAUSE_MS;
    this.#append(`# continued at ${isoTime(clock.wallMs())}\n`);
  }

  /** Bytes written or waiting to be. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Records bytes that were sent or received now. Waits for nothing. */
  record(direction: CaptureRecord['direction'], bytes: Uint8Array): void {
    if (this.#isOver || bytes.length === 0) return;
    const { clock } = this.#options;
    const line = captureLine({
      atMs: clock.monotonicMs() - this.#startMs,
      direction,
      bytes: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    });
    this.#append(line);
  }

  #append(line: string): void {
    const stream = this.#stream;
    if (stream === undefined) return;
    const { path } = this.#options;
    if (this.#bytes + line.length > this.#maxBytes) {
      return this.#end(
        `${path} has reached ${this.#maxBytes} bytes. Move it away to record more from the next start on.`,
      );
    }
    if (stream.writableLength > LIMITS.capture_waiting_bytes) return this.#end(`${path}: the disk is too slow.`);
    this.#bytes += line.length;
    stream.write(line);
  }

  /** Resolves when everything recorded is in the file. Idempotent. */
  async close(): Promise<void> {
    this.#isOver = true;
    this.#stream?.end();
    await this.#closed;
  }

  #end(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stream?.end();
    this.#options.onEnd(reason);
  }
}

/** Where a file ends. */
interface FileEnd {
  readonly bytes: number;
  /** `t` of its last record; undefined: it has none yet. */
  readonly lastMs: number | undefined;
}

/** Makes the file when there is none; takes off a last line that was cut off. @throws GatewayError GW_CAPTURE_INVALID, or that of the system. */
async function endOf(path: string): Promise<FileEnd> {
  const file = await open(path, 'a+', MODE);
  try {
    const { size } = await file.stat();
    // Nothing is added to one that is full.
    if (size >= LIMITS.capture_bytes) return { bytes: size, lastMs: undefined };
    for (let wanted = TAIL_BYTES; ; wanted *= 2) {
      const tail = await tailOf(file, size, Math.min(wanted, size));
      const cutBytes = tail.length - 1 - tail.lastIndexOf(NEWLINE);
      const lines = tail
        .subarray(0, tail.length - cutBytes)
        .toString('utf8')
        .split('\n');
      // The first one may have begun before.
      if (tail.length < size) lines.shift();
      const last = lines.findLast((line) => line.trim() !== '' && !line.startsWith('#'));
      if (last === undefined && tail.length < size) continue;
      const record = last === undefined ? undefined : parseLine(last);
      const cut = tail.toString('utf8', tail.length - cutBytes);
      if (typeof record === 'string' || (last === undefined && !isStartOfLine(cut))) {
        throw new GatewayError('GW_CAPTURE_INVALID', `${path} is no capture, and is left as it is.`);
      }
      if (cutBytes > 0) await file.truncate(size - cutBytes);
      return { bytes: size - cutBytes, lastMs: record?.atMs };
    }
  } finally {
    await file.close();
  }
}

/** Whether a power cut may have left this of the first line of a capture. */
function isStartOfLine(cut: string): boolean {
  return cut.startsWith('#') || cut.startsWith(LINE_START.slice(0, cut.length));
}

async function tailOf(file: FileHandle, size: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
  return buffer.subarray(0, bytesRead);
}

/** One record as a line of the file. */
export function captureLine({ atMs, direction, bytes }: CaptureRecord): string {
  return `${LINE_START}${Math.round(atMs * 10) / 10},"dir":"${direction}","hex":"${bytes.toString('hex')}"}\n`;
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
