// `fieldpost unseal`: opens what an endpoint with `seal:` sent, as a filter.

import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { ERROR_CATALOGUE, errorText, EXIT_CODES, GatewayError, isGatewayError, systemCode } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';
import { type KeyUse, type PayloadKey, readPayloadKey } from '../platform/payload-keys.ts';
import { openPayload } from '../platform/sealed-payload.ts';
import { usageError, type Command } from './command.ts';
import { writeText } from './write-text.ts';

const NEWLINE = 0x0a;
const LINE_END = Uint8Array.of(NEWLINE);

export const unsealCommand: Command = {
  name: 'unseal',
  usage: 'unseal --key FILE [--key FILE] [--signer FILE]',
  summary:
    'Opens sealed messages, one a line of standard input, with a private key, and writes their bodies; with --signer only those signed by that public key.',
  async run(args, { err }) {
    const { values } = parseArgs({
      args: [...args],
      options: { key: { type: 'string', multiple: true }, signer: { type: 'string', multiple: true } },
    });
    const keys = await readKeys(values.key ?? [], 'open');
    if (keys.length === 0) throw usageError('unseal needs --key FILE: the private key of a recipient.');
    const signers = await readKeys(values.signer ?? [], 'verify');
    const unopened = await unsealLines(process.stdin, {
      open: (text) => openPayload(text, keys, signers),
      write: (bytes) => writeText(process.stdout, bytes),
      err,
    });
    return unopened === 0 ? EXIT_CODES.ok : ERROR_CATALOGUE.GW_UNSEAL.exit;
  },
};

export interface UnsealPorts {
  readonly open: (text: string) => ReturnType<typeof openPayload>;
  readonly write: (bytes: Uint8Array) => void | Promise<void>;
  readonly err: (text: string) => void;
}

/**
 * Opens each line and writes its body, with a line end where the line had one: so the bytes of a single message without a
 * line end come out as they went in. What cannot be opened is told and passed over.
 * @returns how many lines could not be opened
 */
export async function unsealLines(
  input: AsyncIterable<Uint8Array>,
  { open, write, err }: UnsealPorts,
): Promise<number> {
  let count = 0;
  let unopened = 0;
  let isToldUnchecked = false;
  for await (const { text, end } of linesOf(input)) {
    count += 1;
    try {
      if (text === undefined) {
        throw new GatewayError('GW_UNSEAL', `A line has at most ${LIMITS.unseal_line_bytes} bytes.`);
      }
      if (text.trim() === '') continue;
      const { body, signature } = await open(text);
      if (signature === 'unchecked' && !isToldUnchecked) {
        isToldUnchecked = true;
        err('fieldpost unseal: signed, and not checked by whom: give --signer FILE.\n');
      }
      await write(Buffer.concat([body, end]));
    } catch (error) {
      if (!isGatewayError(error, 'GW_UNSEAL')) throw error;
      unopened += 1;
      err(`fieldpost unseal: line ${count}: ${errorText(error)}\n`);
    }
  }
  return unopened;
}

interface Line {
  /** Undefined: too long. */
  readonly text: string | undefined;
  /** Its line end; empty for the last where the input ends without one. */
  readonly end: Uint8Array;
}

async function* linesOf(input: AsyncIterable<Uint8Array>): AsyncGenerator<Line> {
  let parts: Uint8Array[] = [];
  let bytes = 0;
  const add = (part: Uint8Array): void => {
    bytes += part.byteLength;
    // Of a line that is too long only its length counts.
    if (bytes > LIMITS.unseal_line_bytes) parts = [];
    else parts.push(part);
  };
  const take = (end: Uint8Array): Line => {
    const line = { text: bytes > LIMITS.unseal_line_bytes ? undefined : Buffer.concat(parts).toString(), end };
    parts = [];
    bytes = 0;
    return line;
  };
  for await (const chunk of input) {
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      add(chunk.subarray(from, at));
      yield take(LINE_END);
      from = at + 1;
    }
    if (from < chunk.byteLength) add(chunk.subarray(from));
  }
  if (bytes > 0) yield take(Buffer.alloc(0));
}

async function readKeys(paths: readonly string[], use: KeyUse): Promise<PayloadKey[]> {
  return Promise.all(
    paths.map(async (path) => {
      const text = await readFile(path, 'utf8').catch((error: unknown) => {
        throw usageError(`${path} could not be read (${systemCode(error) ?? errorText(error)}).`);
      });
      const read = readPayloadKey(text, use);
      if ('fault' in read) throw usageError(`${path} ${read.fault}.`);
      return read;
    }),
  );
}
