// Listens to a port for a scan: one that is opened for it, or one that a running adapter has open.

import { realpath } from 'node:fs/promises';
import { type ScanContext, serialLink, throwIfAborted } from '#sdk';
import type { LentLine } from './line.ts';
import { parseLineFormat } from './line-format.ts';
import type { ScanOptions } from './scan-options.ts';

/** Bytes that are enough to judge one format by. */
const ENOUGH_BYTES = 4096;
/** Formats are told apart by how much of each is lost, so that the whole time counts. */
const COMPARED_BYTES = 1_048_576;

export interface LineSettings {
  readonly baudRate: number;
  /** `8N1`. */
  readonly format: string;
}

/**
 * Opens a port, sends the text if one is given, and collects what comes.
 * @throws GatewayError GW_SERIAL_MISSING, GW_SERIAL_BUSY, GW_SERIAL_DENIED, GW_ABORTED.
 */
export async function listenOn(
  path: string,
  { baudRate, format }: LineSettings,
  { listen_ms: listenMs, send, formats }: ScanOptions,
  { clock, signal }: ScanContext,
): Promise<Buffer> {
  using heard = collector(formats.length === 1 ? ENOUGH_BYTES : COMPARED_BYTES, signal);
  const opener = serialLink({ path, baudRate, ...parseLineFormat(format) });
  const link = await opener.open({ onData: heard.take, onClosed: heard.end }, signal);
  try {
    if (send !== undefined) link.write(Buffer.from(textToSend(send), 'latin1'));
    await clock.sleep(listenMs, heard.over).catch(() => {});
  } finally {
    await link.close();
  }
  throwIfAborted(signal);
  return heard.bytes();
}

const ESCAPES: Readonly<Record<string, string>> = { r: '\r', n: '\n', t: '\t', '0': '\0', '\\': '\\' };

/** Of the option `send`, in which `\r`, `\n`, `\t`, `\0`, `\xHH` and `\\` stand for the characters. */
export function textToSend(send: string): string {
  return send.replaceAll(/\\(?:x([0-9A-Fa-f]{2})|([rnt0\\]))/g, (_, hex: string | undefined, letter: string) =>
    hex === undefined ? (ESCAPES[letter] ?? '') : String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

/** The line that a running adapter has open on a port. */
export async function lentLine(path: string, { running }: ScanContext): Promise<LentLine | undefined> {
  const devicePath = await realpath(path).catch(() => path);
  for (const adapter of running) {
    const line = adapter.lendLine?.(devicePath) as LentLine | undefined;
    if (line !== undefined) return line;
  }
  return undefined;
}

/** Collects what an adapter hears anyway; it is not disturbed. @throws GatewayError GW_ABORTED. */
export async function listenBeside(line: LentLine, listenMs: number, { clock, signal }: ScanContext): Promise<Buffer> {
  using heard = collector(ENOUGH_BYTES, signal);
  const untap = line.tap(heard.take);
  await clock.sleep(listenMs, heard.over).catch(() => {});
  untap();
  throwIfAborted(signal);
  return heard.bytes();
}

interface Collector extends Disposable {
  readonly take: (chunk: Buffer) => void;
  readonly end: () => void;
  /** Aborted when enough was heard, or nothing more will be. */
  readonly over: AbortSignal;
  bytes(): Buffer;
}

function collector(mostBytes: number, signal: AbortSignal): Collector {
  const chunks: Buffer[] = [];
  let count = 0;
  const over = new AbortController();
  const end = (): void => over.abort();
  signal.addEventListener('abort', end, { once: true });
  return {
    take(chunk) {
      if (count >= mostBytes) return end();
      chunks.push(chunk);
      count += chunk.length;
    },
    end,
    over: over.signal,
    bytes: () => Buffer.concat(chunks),
    [Symbol.dispose]: () => signal.removeEventListener('abort', end),
  };
}
