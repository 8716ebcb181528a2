// Shows the serial ports of this machine and guesses at which baud rate and in which format somebody speaks. It listens;
// nothing is sent unless a text to send is given. A port on which the gateway polls is listened to beside its adapter.

import {
  GatewayError,
  isGatewayError,
  listSerialPorts,
  type ScanContext,
  type SerialPortInfo,
  throwIfAborted,
} from '#sdk';
import type { LentLine } from './line.ts';
import { parseLineFormat } from './line-format.ts';
import { lentLine, type LineSettings, listenBeside, listenOn, textToSend } from './scan-listen.ts';
import type { ScanOptions } from './scan-options.ts';
import { isBetter, isText, type Score, scoreOf } from './scan-score.ts';

interface Guess {
  readonly baudRate: number;
  readonly score: Score;
}

/** What is known of a port; without a guess nothing was heard, or nobody listened. */
interface Heard {
  readonly hasListened: boolean;
  readonly guess?: Guess | undefined;
  /** Why it could not be opened. */
  readonly fault?: GatewayError;
  /** The adapter that polls there. */
  readonly adapterId?: string;
}

/**
 * A port that cannot be opened is told and left out.
 * @throws GatewayError GW_ABORTED; for the one that the options name: GW_SERIAL_MISSING, GW_SERIAL_BUSY, GW_SERIAL_DENIED.
 */
export async function scanSerial(options: ScanOptions, context: ScanContext): Promise<void> {
  const all = listSerialPorts();
  const { path } = options;
  const known = all.find((port) => port.path === path || port.byIdPath === path);
  const ports = path === undefined ? all : [known ?? { path }];
  const settings = settingsOf(options);
  const perPortMs = options.list_only ? 0 : settings.length * options.listen_ms;
  const longestMs = ports.length * perPortMs;
  const count = ports.length === 1 ? '1 port' : `${ports.length} ports`;
  context.report({ kind: 'estimate', longestMs, text: `${count}.` });
  if (ports.length === 0) context.report({ kind: 'note', text: 'No serial port has a device behind it.' });
  for (const [index, port] of ports.entries()) {
    throwIfAborted(context.signal);
    const progress = (portMs: number, text: string): void => {
      const doneMs = index * perPortMs + portMs;
      const doneShare = doneMs / Math.max(1, longestMs);
      context.report({ kind: 'progress', doneShare, remainingMs: longestMs - doneMs, text: `${port.path} ${text}` });
    };
    const lent = await lentLine(port.path, context);
    const heard = options.list_only
      ? { hasListened: false, ...(lent && { adapterId: lent.adapterId }) }
      : lent === undefined
        ? await guessSettings(port.path, settings, options, context, progress)
        : await hearAdapter(port.path, lent, options, context, progress);
    // A port that only the command line names, and that does not open, is no find.
    if (heard.fault === undefined || port.driver !== undefined) report(port, heard, options, context);
    else if (path !== undefined) {
      throw new GatewayError(heard.fault.code, 'Nothing was heard: the port could not be opened.', {
        cause: heard.fault,
      });
    }
  }
}

/** All formats at one baud rate, then the next. */
function settingsOf({ baud_rates: baudRates, formats }: ScanOptions): readonly LineSettings[] {
  return baudRates.flatMap((baudRate) => formats.map((format) => ({ baudRate, format })));
}

/** The settings at which most sense was heard. */
async function guessSettings(
  path: string,
  settings: readonly LineSettings[],
  options: ScanOptions,
  context: ScanContext,
  progress: (doneMs: number, text: string) => void,
): Promise<Heard> {
  let best: Guess | undefined;
  for (const [index, setting] of settings.entries()) {
    const { baudRate, format } = setting;
    // Whole lines of text: no other rate reads better, only another format may lose less.
    if (best !== undefined && best.baudRate !== baudRate && isWholeText(best.score)) break;
    throwIfAborted(context.signal);
    progress(index * options.listen_ms, `at ${baudRate} baud, ${format}`);
    try {
      const score = scoreOf(await listenOn(path, setting, options, context), format);
      if (score.bytes > 0 && (best === undefined || isBetter(score, best.score))) best = { baudRate, score };
    } catch (error) {
      if (!isGatewayError(error) || context.signal.aborted) throw error;
      context.report({ kind: 'note', text: error.message });
      return best === undefined ? { hasListened: false, fault: error } : { hasListened: true, guess: best };
    }
  }
  return { hasListened: true, guess: best };
}

function isWholeText(score: Score): boolean {
  return isText(score) && score.printable === 1 && score.lines > 1;
}

/** What an adapter hears while it polls, at the settings that it has. */
async function hearAdapter(
  path: string,
  line: LentLine,
  { listen_ms: listenMs, send }: ScanOptions,
  context: ScanContext,
  progress: (doneMs: number, text: string) => void,
): Promise<Heard> {
  const { adapterId, baudRate, format } = line;
  const unsent = send === undefined ? '' : ' Nothing is sent there.';
  const text = `${path} is in use by adapter "${adapterId}" of this gateway: heard beside it, at ${baudRate} baud, ${format}.${unsent}`;
  context.report({ kind: 'note', text });
  progress(0, `at ${baudRate} baud, ${format}`);
  const score = scoreOf(await listenBeside(line, listenMs, context), format);
  return { hasListened: true, adapterId, ...(score.bytes > 0 && { guess: { baudRate, score } }) };
}

function report(
  port: SerialPortInfo,
  { hasListened, guess, adapterId }: Heard,
  { send }: ScanOptions,
  context: ScanContext,
): void {
  // The configuration of an adapter is there; and whether it asks for what was heard cannot be told.
  const isSuggested = adapterId === undefined && guess !== undefined && isText(guess.score);
  const request = send === undefined ? undefined : textToSend(send);
  const usb = port.vendorId === undefined ? undefined : `${port.vendorId}:${port.productId ?? '?'}`;
  const facts: Record<string, string | undefined> = {
    'by id': port.byIdPath,
    usb,
    'serial number': port.serialNumber,
    interface: port.interfaceNumber?.toString(),
    manufacturer: port.manufacturer,
    product: port.product,
    driver: port.driver,
    adapter: adapterId,
    ...(hasListened ? guessFacts(guess) : {}),
  };
  context.report({
    kind: 'found',
    finding: {
      place: port.path,
      facts: Object.fromEntries(
        Object.entries(facts).filter((entry): entry is [string, string] => entry[1] !== undefined),
      ),
      ...(isSuggested && { suggestion: suggestion(port, guess, request) }),
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
    format: score.format,
    sample: score.sample,
  };
}

function suggestion(port: SerialPortInfo, { baudRate, score }: Guess, request: string | undefined): string {
  const decode =
    score.sentences.length > 0
      ? `decode: { kind: nmea, sentences: [${score.sentences.join(', ')}] }`
      : score.sample.startsWith('{')
        ? 'decode: { kind: json, values: { value: /value } }'
        : "decode: { kind: regex, pattern: '(?<value>[-+0-9.]+)', types: { value: number } }";
  const { dataBits, parity, stopBits } = parseLineFormat(score.format);
  return [
    'type: serial',
    `path: ${port.byIdPath ?? port.path}`,
    `baud_rate: ${baudRate}`,
    ...(dataBits === 8 ? [] : [`data_bits: ${dataBits}`]),
    ...(parity === 'none' ? [] : [`parity: ${parity}`]),
    ...(stopBits === 1 ? [] : [`stop_bits: ${stopBits}`]),
    'framing: { kind: readline }',
    'devices:',
    '  instrument:',
    ...(request === undefined ? [] : [`    request: ${JSON.stringify(request.replaceAll(/[{}]/g, '$&$&'))}`]),
    `    ${decode}\n`,
  ].join('\n');
}
