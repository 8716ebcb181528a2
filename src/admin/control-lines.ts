// Answers without an end of their own on the control socket: a line of JSON for each event, the last is `{"kind":"end"}` or the
// error. Who hangs up ends it, and so does the server.

import { request as send } from 'node:http';
import { createInterface } from 'node:readline';
import type { FastifyReply } from 'fastify';
import { GatewayError } from '../core/errors.ts';
import { errorBody } from '../core/http-status.ts';
import { answeredError, connectionError } from './control-errors.ts';

interface Line {
  readonly kind: string;
}

/** The server's side. `tell` resolves when the client has room for more. */
export async function answerLines(
  reply: FastifyReply,
  closing: AbortSignal,
  work: (signal: AbortSignal, tell: (line: Line) => Promise<void>) => Promise<void>,
): Promise<void> {
  const hungUp = new AbortController();
  reply.hijack();
  reply.raw.on('close', () => hungUp.abort());
  const tell = (line: Line): Promise<void> => {
    if (reply.raw.destroyed || reply.raw.write(`${JSON.stringify(line)}\n`)) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        reply.raw.off('drain', done).off('close', done);
        resolve();
      };
      reply.raw.on('drain', done).on('close', done);
    });
  };
  reply.raw.writeHead(200, { 'content-type': 'application/x-ndjson' });
  reply.raw.flushHeaders();
  try {
    await work(AbortSignal.any([hungUp.signal, closing]), tell);
    await tell({ kind: 'end' });
  } catch (error) {
    await tell({ kind: 'error', ...errorBody(error) });
  }
  reply.raw.end();
}

export interface LinesRequest {
  readonly socketPath: string;
  readonly path: string;
  readonly body: unknown;
  readonly signal: AbortSignal;
  /** Of the work, for errors: `scan`. */
  readonly what: string;
}

/**
 * The client's side: resolves at the end. `report` gets every other line; while what it returns is unresolved no more is read.
 * @throws GatewayError what the gateway answers with; GW_NOT_RUNNING, GW_ABORTED, GW_DISCONNECTED when the gateway ends meanwhile.
 */
export function readLines(
  { socketPath, path, body, signal, what }: LinesRequest,
  report: (line: Line) => void | Promise<void>,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const text = JSON.stringify(body);
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
    const outgoing = send({ socketPath, method: 'POST', path, headers, agent: false, signal });
    const fail = (error: Error): void => {
      reject(
        signal.aborted
          ? new GatewayError('GW_ABORTED', `The ${what} was stopped.`)
          : connectionError(socketPath, error),
      );
    };
    outgoing.on('error', fail);
    outgoing.on('response', (response) => {
      const read = async (): Promise<void> => {
        for await (const line of createInterface({ input: response })) {
          const told = JSON.parse(line) as Partial<Line>;
          if (told.kind === 'end') return;
          if (told.kind === undefined || told.kind === 'error') throw answeredError(told, line);
          await report(told as Line);
        }
        throw new GatewayError('GW_DISCONNECTED', `The gateway ended before the ${what} did.`);
      };
      response.on('error', fail);
      read().then(resolve, (error: unknown) => {
        if (signal.aborted) fail(new Error('aborted'));
        else reject(error);
        outgoing.destroy();
      });
    });
    outgoing.end(text);
  });
}
