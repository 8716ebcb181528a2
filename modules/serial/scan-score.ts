// How much what was heard looks like the right baud rate: text is printable and comes in lines; at a wrong rate it is noise.

/** Fewer bytes say nothing. */
const LEAST_BYTES = 8;
/** Below this share of printable bytes it is noise, or a binary protocol. */
const LEAST_SHARE = 0.9;

export interface Score {
  readonly bytes: number;
  /** Share of the bytes that are printable, line ends included: 0 to 1. */
  readonly printable: number;
  readonly lines: number;
  /** The longest line, for people; control characters are left out. */
  readonly sample: string;
}

export function scoreOf(heard: Uint8Array): Score {
  const text = Buffer.from(heard).toString('latin1');
  const printable = text.match(/[\t\r\n\u0020-\u007e]/g)?.length ?? 0;
  const lines = text.split(/[\r\n]+/);
  const clean = lines.map((line) => line.replaceAll(/[^\u0020-\u007e]/g, '').trim());
  return {
    bytes: heard.length,
    printable: heard.length === 0 ? 0 : printable / heard.length,
    lines: lines.length - 1,
    sample: clean.reduce((longest, line) => (line.length > longest.length ? line : longest), '').slice(0, 80),
  };
}

export function isText({ bytes, printable }: Score): boolean {
  return bytes >= LEAST_BYTES && printable >= LEAST_SHARE;
}

/** Whether the first is the better guess: text before noise, whole lines before none, then the cleaner and longer one. */
export function isBetter(left: Score, right: Score): boolean {
  if (isText(left) !== isText(right)) return isText(left);
  if (left.lines > 0 !== right.lines > 0) return left.lines > 0;
  return left.printable === right.printable ? left.bytes > right.bytes : left.printable > right.printable;
}
