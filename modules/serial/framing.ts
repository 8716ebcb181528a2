// The kinds of framing: each finds where a frame begins and ends. How serialport's own parsers compare is in README.md.

import { bytesOf } from './bytes.ts';
import type { FramingConfig } from './config-framing.ts';
import type { FrameScanner, Step } from './framer.ts';

type ConfigOf<Kind extends FramingConfig['kind']> = Extract<FramingConfig, { kind: Kind }>;

/** Searching on in the middle of a wrong frame takes a checksum of its length for every byte, so longer ones are left out whole. */
const SLIDE_MAX_BYTES = 1024;

/** The scanner for a configuration. `hasChecksum`: whether a wrong candidate is told by its checksum. */
export function createScanner(config: FramingConfig, hasChecksum: boolean): FrameScanner {
  switch (config.kind) {
    case 'delimiter':
      return delimiterScanner(bytesOf(config.delimiter), config.max_frame_bytes);
    case 'readline':
      return readlineScanner(config.max_frame_bytes);
    case 'fixed_length':
      return fixedLengthScanner(config, hasChecksum);
    case 'length_field':
      return lengthFieldScanner(config);
    case 'start_stop':
      return startStopScanner(config, hasChecksum);
    case 'silence':
      return silenceScanner(config.max_frame_bytes);
    case 'slip':
      return slipScanner(config.max_frame_bytes);
  }
}

/** How long the line is silent before an unfinished frame is given up, or is one. */
export function silenceMsOf(config: FramingConfig): number {
  return config.kind === 'silence' ? config.silence_ms : config.partial_timeout_ms;
}

function whole(bytes: Buffer, end: number, take: number): Step {
  return { take, frame: { bytes: bytes.subarray(0, end), payloadStart: 0, payloadEnd: end } };
}

/** Frames that end with a mark which `find` finds; while too long a frame goes on, its bytes are skipped. */
function endMarkScanner(options: {
  readonly find: (bytes: Buffer) => number;
  readonly markBytes: number;
  readonly maxBytes: number;
  readonly frame: (bytes: Buffer, end: number, take: number) => Step;
}): FrameScanner {
  const { find, markBytes, maxBytes, frame } = options;
  let isSkipping = false;
  return {
    scan(bytes) {
      const end = find(bytes);
      if (end >= 0) {
        const take = end + markBytes;
        const isRest = isSkipping;
        isSkipping = false;
        if (isRest || end === 0) return { take };
        return end > maxBytes ? { take, fault: 'oversized' } : frame(bytes, end, take);
      }
      // The mark may have begun.
      const surplus = bytes.length - (markBytes - 1);
      if (isSkipping) return surplus > 0 ? { take: surplus } : undefined;
      if (surplus <= maxBytes) return undefined;
      isSkipping = true;
      return { take: surplus, fault: 'oversized' };
    },
    reset() {
      isSkipping = false;
    },
  };
}

function delimiterScanner(delimiter: Buffer, maxBytes: number): FrameScanner {
  return endMarkScanner({
    find: (bytes) => bytes.indexOf(delimiter),
    markBytes: delimiter.length,
    maxBytes,
    frame: whole,
  });
}

const CARRIAGE_RETURN = 0x0d;
const LINE_FEED = 0x0a;

/** Lines that end with CR, LF or both; empty ones are no frames, so that the LF of CR LF may come later. */
function readlineScanner(maxBytes: number): FrameScanner {
  const find = (bytes: Buffer): number => {
    const feed = bytes.indexOf(LINE_FEED);
    const carriage = bytes.subarray(0, feed < 0 ? bytes.length : feed).indexOf(CARRIAGE_RETURN);
    return carriage < 0 ? feed : carriage;
  };
  return endMarkScanner({ find, markBytes: 1, maxBytes, frame: whole });
}

/** Bytes before the mark that frames begin with; undefined when it stands at the front. */
function garbageBefore(bytes: Buffer, start: Buffer): Step | undefined {
  if (start.length === 0) return undefined;
  const at = bytes.indexOf(start);
  if (at > 0) return { take: at, fault: 'garbage' };
  if (at === 0) return undefined;
  // The mark may have begun at the end.
  for (let length = Math.min(start.length - 1, bytes.length); length > 0; length -= 1) {
    if (!bytes.subarray(bytes.length - length).equals(start.subarray(0, length))) continue;
    return length === bytes.length ? undefined : { take: bytes.length - length, fault: 'garbage' };
  }
  return { take: bytes.length, fault: 'garbage' };
}

function startOf(config: { readonly start?: FramingStart }): Buffer {
  return config.start === undefined ? Buffer.alloc(0) : bytesOf(config.start);
}
type FramingStart = ConfigOf<'length_field'>['start'];

function fixedLengthScanner(config: ConfigOf<'fixed_length'>, hasChecksum: boolean): FrameScanner {
  const start = startOf(config);
  const { length_bytes: length } = config;
  return {
    scan(bytes) {
      const garbage = garbageBefore(bytes, start);
      if (garbage !== undefined) return garbage;
      if (bytes.length < length) return undefined;
      return { ...whole(bytes, length, length), ...(hasChecksum && length <= SLIDE_MAX_BYTES && { slideBytes: 1 }) };
    },
  };
}

function lengthFieldScanner(config: ConfigOf<'length_field'>): FrameScanner {
  const start = startOf(config);
  const { length_offset: offset, length_bytes: width, order, extra_bytes: extra, max_frame_bytes: maxBytes } = config;
  const headerEnd = Math.max(start.length, offset + width);
  return {
    scan(bytes) {
      const garbage = garbageBefore(bytes, start);
      if (garbage !== undefined) return garbage;
      if (bytes.length < headerEnd) return undefined;
      const told = order === 'little' ? bytes.readUIntLE(offset, width) : bytes.readUIntBE(offset, width);
      const total = told + extra;
      if (total > maxBytes) return { take: 1, fault: 'oversized' };
      if (total < headerEnd) return { take: 1, fault: 'garbled' };
      if (bytes.length < total) return undefined;
      return { ...whole(bytes, total, total), ...(total <= SLIDE_MAX_BYTES && { slideBytes: 1 }) };
    },
  };
}

function startStopScanner(config: ConfigOf<'start_stop'>, hasChecksum: boolean): FrameScanner {
  const start = bytesOf(config.start);
  const stop = bytesOf(config.stop);
  const { trailer_bytes: trailer, max_frame_bytes: maxBytes } = config;
  const isOneMark = start.equals(stop);
  return {
    scan(bytes) {
      const garbage = garbageBefore(bytes, start);
      if (garbage !== undefined) return garbage;
      if (bytes.length < start.length) return undefined;
      const end = bytes.indexOf(stop, start.length);
      if (end < 0 || end > maxBytes) return bytes.length > maxBytes ? { take: 1, fault: 'oversized' } : undefined;
      // Two marks in a row where one mark serves both ends: the second begins the frame.
      if (isOneMark && end === start.length) return { take: end };
      // The start of another frame in the middle: the stop of this one was lost. A checksum decides better.
      const later = isOneMark || hasChecksum ? 0 : bytes.lastIndexOf(start, end - 1);
      if (later > 0) return { take: later, fault: 'truncated' };
      const total = end + stop.length + trailer;
      if (bytes.length < total) return undefined;
      return {
        // One mark may end a frame and begin the next.
        take: isOneMark && trailer === 0 ? end : total,
        frame: {
          bytes: bytes.subarray(0, total),
          payloadStart: start.length,
          payloadEnd: end,
          ...(hasChecksum && !isOneMark && { laterStarts: laterStarts(bytes, start, end) }),
        },
        // All frames that could end with this stop are looked at.
        ...(hasChecksum && { slideBytes: end }),
      };
    },
  };
}

/** Where else a frame that ends with the mark at `end` may begin, the last place first. */
function laterStarts(bytes: Buffer, start: Buffer, end: number): number[] {
  const found: number[] = [];
  const first = Math.max(1, end - SLIDE_MAX_BYTES);
  for (let at = end - start.length; at >= first; at -= 1) {
    at = bytes.lastIndexOf(start, at);
    if (at < first) break;
    found.push(at);
  }
  return found;
}

/** Frames that are told apart by silence alone. */
function silenceScanner(maxBytes: number): FrameScanner {
  let isSkipping = false;
  return {
    scan(bytes) {
      if (isSkipping) return { take: bytes.length };
      if (bytes.length <= maxBytes) return undefined;
      isSkipping = true;
      return { take: bytes.length, fault: 'oversized' };
    },
    silence: (bytes) => (bytes.length === 0 ? undefined : whole(bytes, bytes.length, bytes.length)),
    reset() {
      isSkipping = false;
    },
  };
}

// RFC 1055.
const SLIP_END = 0xc0;
const SLIP_ESC = 0xdb;
const SLIP_ESCAPED: Readonly<Record<number, number>> = { 0xdc: SLIP_END, 0xdd: SLIP_ESC };

function slipScanner(maxBytes: number): FrameScanner {
  return endMarkScanner({
    find: (bytes) => bytes.indexOf(SLIP_END),
    markBytes: 1,
    // Each byte may be escaped.
    maxBytes: maxBytes * 2,
    frame(bytes, end, take) {
      const decoded = unescapeSlip(bytes.subarray(0, end));
      if (decoded === undefined) return { take, fault: 'garbled' };
      return decoded.length > maxBytes ? { take, fault: 'oversized' } : whole(decoded, decoded.length, take);
    },
  });
}

/** Undefined where an escape is none of RFC 1055. */
function unescapeSlip(bytes: Buffer): Buffer | undefined {
  const decoded: number[] = [];
  for (let index = 0; index < bytes.length; index += 1) {
    let byte = bytes[index];
    if (byte === SLIP_ESC) {
      index += 1;
      byte = SLIP_ESCAPED[bytes[index] ?? -1];
    }
    if (byte === undefined) return undefined;
    decoded.push(byte);
  }
  return Buffer.from(decoded);
}

/** A frame as SLIP sends it, with an END on both sides. */
export function escapeSlip(bytes: Uint8Array): Buffer {
  const escaped = [...bytes].flatMap((byte) => {
    if (byte === SLIP_END) return [SLIP_ESC, 0xdc];
    return byte === SLIP_ESC ? [SLIP_ESC, 0xdd] : [byte];
  });
  return Buffer.from([SLIP_END, ...escaped, SLIP_END]);
}
