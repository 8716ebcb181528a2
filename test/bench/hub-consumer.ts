// A back end that reads the events of a hub with `@azure/event-hubs`, in a process of its own.

import { join } from 'node:path';
import { startChild } from '../support/child.ts';
import { OWNER_KEY } from './hub-client.ts';

/** Of a hub as shipped. */
export const PARTITIONS = 4;
/** For the SDK to connect, and for the last message. */
const READY_MS = 60_000;
const RECEIVED_MS = 120_000;

export interface Received {
  /** `performance.now()` of the last first arrival. */
  readonly endMs: number;
  /** Of each first arrival, from its stamp (mqtt-load.ts). */
  readonly latenciesMs: readonly number[];
  /** Arrivals after the first. */
  readonly again: number;
  /** First arrivals under the identity of another device than the one whose number they hold. */
  readonly foreign: number;
}

export interface Consumer extends AsyncDisposable {
  /** Resolves when `count` different messages have come since the last time. */
  receive(count: number): Promise<Received>;
}

/** @param caPath of the authority of whom stands at that address. */
export async function startConsumer(hub: {
  readonly address: string;
  readonly port: number;
  readonly caPath: string;
}): Promise<Consumer> {
  const key = `SharedAccessKeyName=iothubowner;SharedAccessKey=${OWNER_KEY}`;
  const connectionString = `Endpoint=sb://${hub.address}:${hub.port}/;${key};EntityPath=hub`;
  const child = startChild(join(import.meta.dirname, 'hub-events-child.ts'), {
    args: [connectionString, String(PARTITIONS)],
    env: { NODE_EXTRA_CA_CERTS: hub.caPath },
  });
  await child.next(isReady, READY_MS);
  return {
    async receive(count) {
      child.send({ count });
      const { endMs, latenciesMs, originMs, ...counts } = await child.next(isReceived, RECEIVED_MS);
      // Each process counts from its own start.
      const shiftMs = originMs - performance.timeOrigin;
      return { ...counts, endMs: endMs + shiftMs, latenciesMs: latenciesMs.map((ms) => ms + shiftMs) };
    },
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}

function isReady(report: unknown): report is { readonly ready: true } {
  return typeof report === 'object' && report !== null && 'ready' in report;
}

function isReceived(report: unknown): report is Received & { readonly originMs: number } {
  return typeof report === 'object' && report !== null && 'endMs' in report;
}
