// Strangers who guess: what ten times the handshake limit in bad log-ins does to devices that are connected to the local hub, and
// to those that the gateway polls meanwhile.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Duplex } from 'node:stream';
import { siteHost } from '../sim/modbus-site.ts';
import { startChild } from '../support/child.ts';
import { freePort } from '../support/free-port.ts';
import { waitFor } from '../support/wait.ts';
import { atLeast, atMost, quantile, whole, type BenchContext, type BenchRow } from './bench.ts';
import { openDevice, openService, type HubTarget } from './hub-client.ts';
import { startHub } from './hub.ts';
import { floatPoints, isListening } from './modbus-config.ts';
import { startLoad } from './mqtt-load.ts';

const ADDRESS = '127.0.101.6';
const CLIENTS = 50;
const POLLED = 50;
const BODY_BYTES = 256;
const MESSAGES_PER_SEC = 100;
/** `hub.max_handshakes_per_sec`, as shipped. */
const HANDSHAKES_PER_SEC = 100;
const RATE = 10 * HANDSHAKES_PER_SEC;
const SETTLE_MS = 12_000;

interface Spacing {
  readonly requests: number;
  readonly expected: number;
  readonly onTimeShare: number;
  readonly maxMs: number;
}

function isSpacing(report: unknown): report is Spacing {
  return typeof report === 'object' && report !== null && 'onTimeShare' in report;
}

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  const modbusPort = await freePort(siteHost(0));
  await using site = startChild(join(import.meta.dirname, 'modbus-site-child.ts'), {
    args: [String(POLLED), String(modbusPort), '8'],
  });
  await site.next(isListening);
  const { daemon, target } = await startHub(context, {
    address: ADDRESS,
    directory: 'hub',
    config: polled(modbusPort),
  });
  await using _ = daemon;
  const service = openService(target);
  await service.createDevices(CLIENTS);
  service.close();
  const clients = new Map<string, Duplex>();
  for (let n = 0; n < CLIENTS; n += 1) clients.set(`device-${n}`, await openDevice(target, `device-${n}`));
  const messages = context.quick ? 20 : 60;
  await acknowledgedMs(target, clients, messages);
  await sleep(SETTLE_MS);

  const idleMs = quantile(await acknowledgedMs(target, clients, messages), 0.99);
  let attempts = 0;
  await using flood = startChild(join(import.meta.dirname, 'hub-flood-child.ts'), {
    args: [JSON.stringify(target), String(RATE), String(CLIENTS)],
    onReport: (report) => ({ attempts } = report as { attempts: number }),
  });
  await waitFor(() => attempts > RATE, { timeoutMs: 30_000, what: 'the flood of log-ins' });
  // Forgets what was before.
  site.send({ report: true });
  await site.next(isSpacing);
  const floodedMs = quantile(await acknowledgedMs(target, clients, messages), 0.99);
  site.send({ report: true });
  const polls = await site.next(isSpacing);
  await flood.kill();
  await daemon.stop();
  return [
    {
      what: `p99 of the PUBACKs of ${CLIENTS} connected devices under ${RATE} bad log-ins a second, over the same without`,
      measured: `${floodedMs.toFixed(1)} ms over ${idleMs.toFixed(1)} ms at ${MESSAGES_PER_SEC}/s, ${whole(attempts)} attempts`,
      value: floodedMs / idleMs,
      unit: '×',
      bar: atMost(2),
    },
    {
      what: `${POLLED} Modbus TCP devices polled once a second meanwhile: polls within 10 % of the period`,
      measured: `${polls.requests} of ${polls.expected} polls, at most ${polls.maxMs.toFixed(0)} ms off the grid`,
      value: polls.onTimeShare * 100,
      unit: '%',
      bar: atLeast(99),
    },
  ];
}

function polled(port: number): string {
  const devices = Array.from(
    { length: POLLED },
    (_, n) =>
      `      meter-${n}: { unit_id: 1, host: ${siteHost(n)}, poll_interval_ms: 1000, points: ${floatPoints(2)} }\n`,
  );
  return `adapters:
  field:
    type: modbus
    transport: { kind: tcp, port: ${port} }
    devices:
${devices.join('')}`;
}

/** From a message to its PUBACK, of all clients, each sending `messages`. */
async function acknowledgedMs(
  target: HubTarget,
  clients: ReadonlyMap<string, Duplex>,
  messages: number,
): Promise<readonly number[]> {
  const latenciesMs: number[] = [];
  const load = await startLoad({
    host: target.address,
    port: target.mqttsPort,
    publishers: CLIENTS,
    bodyBytes: BODY_BYTES,
    window: messages,
    messages,
    perSecond: MESSAGES_PER_SEC,
    latenciesMs,
    open: (deviceId) => Promise.resolve(clients.get(deviceId) as Duplex),
    topicOf: (deviceId) => `devices/${deviceId}/messages/events/`,
  });
  await load.acknowledged;
  for (const client of clients.values()) client.removeAllListeners('data');
  return latenciesMs;
}
