// Shows the serial ports of this machine and guesses at which baud rate somebody speaks. It listens; nothing is sent
// unless a text to send is given.

import {
  isGatewayError,
  listSerialPorts,
  type ScanContext,
  serialLink,
  type SerialPortInfo,
  throwIfAborted,
} from '#sdk';
import type { ScanOptions } from './scan-options.ts';
import { isBetter, isText, type Score, scoreOf } from './scan-score.ts';

/** Bytes that are enough to judge by. */
const ENOUGH_BYTES = 4096;

interface Guess {
  readonly baudRate: number;
  readonly score: Score;
}

/** @throws GatewayError GW_ABORTED. A port that cannot be opened is told and left out. */
export async function scanSerial(options: ScanOptions, context: ScanContext): Promise<void> {
  const all = await listSerialPorts();
  const { path } = options;
  const known = all.find((port) => port.path === path || port.byIdPath === path);
  const ports = path === undefined ? all : [known ?? { path }];
  const perPortMs = options.list_only ? 0 : options.baud_rates.length * options.listen_ms;
  const count = ports.length === 1 ? '1 port' : `${ports.length} ports`;
  context.report({ kind: 'estimate', longestMs: ports.length * perPortMs, text: `${count}.` });
  if (ports.length === 0) context.report({ kind: 'note', text: 'No serial port has a device behind it.' });
  for (const [index, port] of ports.entries()) {
    throwIfAborted(context.signal);
    const doneMs = index * perPortMs;
    const progress = (baudMs: number, text: string): void => {
      const longestMs = Math.max(1, ports.length * perPortMs);
      const remainingMs = longestMs - doneMs - baudMs;
      context.report({ kind: 'progress', doneShare: (doneMs + baudMs) / longestMs, remainingMs, text });
    };
    const guess = options.list_only ? undefined : await guessBaudRate(port.path, options, context, progress);
    // A port that only the command line names, and that does not open, is no find.
    if (guess !== 'not opened') report(port, guess, context);
    else if (port.driver !== undefined) report(port, undefined, context);
  }
}

/** The baud rate at which most sense was heard; undefined where nothing was. */
async function guessBaudRate(
  path: string,
  options: ScanOptions,
  context: ScanContext,
  progress: (doneMs: number, text: string) => void,
): Promise<Guess | 'not opened' | undefined> {
  let best: Guess | undefined;
  for (const [index, baudRate] of options.baud_rates.entries()) {
    throwIfAborted(context.signal);
    progress(index * options.listen_ms, `${path} at ${baudRate} baud`);
    let score: Score;
    try {
      score = scoreOf(await listen(path, baudRate, options, context));
    } catch (error) {
      if (!isGatewayError(error) || context.signal.aborted) throw error;
      context.report({ kind: 'note', text: error.message });
      return best ?? 'not opened';
    }
    if (score.bytes > 0 && (best === undefined || isBetter(score, best.score))) best = { baudRate, score };
    // Whole lines of text: no other rate reads better.
    if (isText(score) && score.printable === 1 && score.lines > 1) break;
  }
  return best;
}

async function listen(path: string, baudRate: number, options: ScanOptions, context: ScanContext): Promise<Buffer> {
  const { listen_ms: listenMs, send } = options;
  const { clock, signal } = context;
  const chunks: Buffer[] = [];
  let bytes = 0;
  const over = new AbortController();
  const end = (): void => over.abort();
  signal.addEventListener('abort', end, { once: true });
  const onData = (chunk: Buffer): void => {
    if (bytes >= ENOUGH_BYTES) return end();
    chunks.push(chunk);
    bytes += chunk.length;
  };
  const opener = serialLink({ path, baudRate, dataBits: 8, parity: 'none', stopBits: 1 });
  const link = await opener.open({ onData, onClosed: end }, signal);
  try {
    if (send !== undefined) link.write(Buffer.from(send.replaceAll('\\r', '\r').replaceAll('\\n', '\n'), 'latin1'));
    await clock.sleep(listenMs, over.signal).catch(() => {});
  } finally {
    signal.removeEventListener('abort', end);
    await link.close();
  }
  throwIfAborted(signal);
  return Buffer.concat(chunks);
}

function report(port: SerialPortInfo, guess: Guess | undefined, context: ScanContext): void {
  const usb = port.vendorId === undefined ? undefined : `${port.vendorId}:${port.productId ?? '?'}`;
  const facts: Record<string, string | undefined> = {
    'by id': port.byIdPath,
    usb,
    'serial number': port.serialNumber,
    interface: port.interfaceNumber?.toString(),
    manufacturer: port.manufacturer,
    product: port.product,
    driver: port.driver,
    ...guessFacts(guess),
  };
  context.report({
    kind: 'found',
    finding: {
      place: port.path,
      facts: Object.fromEntries(
        Object.entries(facts).filter((entry): entry is [string, string] => entry[1] !== undefined),
      ),
      ...(guess !== undefined && isText(guess.score) ? { suggestion: suggestion(port, guess) } : {}),
    },
  });
}

function guessFacts(guess: Guess | undefined): Record<string, string> {
  if (guess === undefined) return { heard: 'nothing' };
  const { baudRate, score } = guess;
  const share = `${Math.round(score.printable * 100)} % printable`;
  if (!isText(score))
    return { heard: `${score.bytes} bytes, ${share}: noise at a wrong baud rate, or a binary protocol` };
  return {
    heard: `${score.bytes} bytes, ${share}, ${score.lines} lines`,
    'baud rate': String(baudRate),
    sample: score.sample,
  };
}

function suggestion(port: SerialPortInfo, { baudRate, score }: Guess): string {
  const decode = /^[$!][A-Z]{5},/.test(score.sample)
    ? 'decode: { kind: nmea, sentences: [GGA, RMC] }'
    : score.sample.startsWith('{')
      ? 'decode: { kind: json, values: { value: /value } }'
      : "decode: { kind: regex, pattern: '(?<value>[-+0-9.]+)', types: { value: number } }";
  return `type: serial\npath: ${port.byIdPath ?? port.path}\nbaud_rate: ${baudRate}\nframing: { kind: readline }\ndevices:\n  instrument:\n    ${decode}\n`;
}
