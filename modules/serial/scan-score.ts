// How much what was heard looks like the right line settings: text is printable and comes in lines; at a wrong baud rate it
// is noise. Text of 7 bits heard with 8 and no parity has the parity bit on top, which tells the format.

import { NMEA_SENTENCE_NAMES, type NmeaSentence } from './nmea-sentences.ts';

/** Fewer bytes say nothing. */
const LEAST_BYTES = 8;
/** Below this share of printable bytes it is noise, or a binary protocol. */
const LEAST_SHARE = 0.9;
/** As much more must be heard, at least, to be more than chance: characters of a wrong format are lost. */
const CLEARLY_MORE = 1.25;

export interface Score {
  readonly bytes: number;
  /** Share of the bytes that are printable, line ends included: 0 to 1. */
  readonly printable: number;
  readonly lines: number;
  /** The longest line, for people; control characters are left out. */
  readonly sample: string;
  /** The format that it was sent in, in so far as it can be told. */
  readonly format: string;
  /** The NMEA 0183 sentences among those that can be decoded, by their formatters. */
  readonly sentences: readonly NmeaSentence[];
}

/** Formats that look like 8N1 with something in the highest bit; each with what that bit is for 7 bits of data. */
const SEVEN_BITS: readonly (readonly [format: string, top: (data: number) => number])[] = [
  ['7E1', (data) => ones(data) & 1],
  ['7O1', (data) => (ones(data) & 1) ^ 1],
  // The first of two stop bits.
  ['7N2', () => 1],
];

/** What was heard with a format. With 8N1 it may be text of 7 bits. */
export function scoreOf(heard: Uint8Array, format = '8N1'): Score {
  const plain = scoreText(Buffer.from(heard).toString('latin1'), format);
  if (format !== '8N1' || isText(plain)) return plain;
  const readings = SEVEN_BITS.map(([name, top]) => scoreText(sevenBits(heard, top), name));
  return readings.find(isText) ?? plain;
}

/** The text in the lower 7 bits; bytes whose highest bit is not as it should be stay as they are, and are not printable. */
function sevenBits(heard: Uint8Array, top: (data: number) => number): string {
  const bytes = heard.map((byte) => (byte >> 7 === top(byte & 0x7f) ? byte & 0x7f : byte | 0x80));
  return Buffer.from(bytes).toString('latin1');
}

function ones(data: number): number {
  let count = 0;
  for (let rest = data; rest > 0; rest >>= 1) count += rest & 1;
  return count;
}

function scoreText(text: string, format: string): Score {
  const printable = text.match(/[\t\r\n\u0020-\u007e]/g)?.length ?? 0;
  const lines = text.split(/[\r\n]+/);
  const clean = lines.map((line) => line.replaceAll(/[^\u0020-\u007e]/g, '').trim());
  return {
    bytes: text.length,
    printable: text === '' ? 0 : printable / text.length,
    lines: lines.length - 1,
    sample: clean.reduce((longest, line) => (line.length > longest.length ? line : longest), '').slice(0, 80),
    format,
    sentences: NMEA_SENTENCE_NAMES.filter((name) => lines.some((line) => hasSentence(line, name))),
  };
}

/** With a sound checksum, or with none: noise or a sentence that was cut off may stand before. */
function hasSentence(line: string, name: NmeaSentence): boolean {
  const sentence = /[$!]([A-Z]{2}([A-Z]{3}),[^*$!]*)(?:\*([0-9A-F]{2}))?$/.exec(line.trimEnd());
  const [, body = '', formatter, checksum] = sentence ?? [];
  if (formatter !== name) return false;
  const sum = Buffer.from(body, 'latin1').reduce((total, byte) => total ^ byte, 0);
  return checksum === undefined || Number.parseInt(checksum, 16) === sum;
}

export function isText({ bytes, printable }: Score): boolean {
  return bytes >= LEAST_BYTES && printable >= LEAST_SHARE;
}

/** Whether the first is the better guess: text before noise, whole lines before none, then the cleaner and longer one. */
export function isBetter(left: Score, right: Score): boolean {
  if (isText(left) !== isText(right)) return isText(left);
  if (left.lines > 0 !== right.lines > 0) return left.lines > 0;
  return left.printable === right.printable
    ? left.bytes > right.bytes * CLEARLY_MORE
    : left.printable > right.printable;
}
