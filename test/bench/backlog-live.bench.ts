// A backlog of a hundred thousand messages, and a device that goes on sending ten a second: how long each of these takes while the
// backlog drains, at the link's own speed and over a slow one.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startTcpProxy, type TcpProxy } from '../sim/tcp-proxy.ts';
import { freePort } from '../support/free-port.ts';
import { waitFor } from '../support/wait.ts';
import { atMost, median, quantile, whole, type BenchContext, type BenchRow } from './bench.ts';
import { mqttFieldYaml, spawnDaemon, type BenchDaemon } from './daemon.ts';
import { startHubStub, STUB_UPSTREAMS, upstreamYaml, type HubStub, type StubUpstream } from './iothub-stub.ts';
import { openClient, publishPacket, startLoad } from './mqtt-load.ts';

const ADDRESS = '127.0.162.4';
const BACKLOG = 100_000;
const PUBLISHERS = 4;
const BODY_BYTES = 256;
const LIVE_EVERY_MS = 100;
/** Stands in the bodies of the live device alone, behind the round, its number and the place of a stamp (mqtt-load.ts). */
const MARKER = 'of the live device';
const MARKER_AT = 16;
/** What waits for longer than 5 s is history when the link is back. */
const AWAY_MS = 6000;
const SLOW_BYTES_PER_SEC = 1_000_000;
const BAR_SECS = 1;

interface Rig {
  readonly stub: HubStub;
  readonly proxy: TcpProxy;
  readonly fieldPort: number;
}

interface Drain {
  readonly secs: number;
  /** Of what the live device sent meanwhile. */
  readonly latenciesMs: readonly number[];
}

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const upstream of STUB_UPSTREAMS) rows.push(...(await drainsOf(context, upstream)));
  return rows;
}

async function drainsOf(context: BenchContext, upstream: StubUpstream): Promise<readonly BenchRow[]> {
  const directory = join(context.directory, upstream);
  mkdirSync(directory);
  await using stub = await startHubStub({ address: ADDRESS, directory });
  await using proxy = await startTcpProxy({ target: { host: ADDRESS, port: stub.port }, address: ADDRESS });
  const fieldPort = await freePort(ADDRESS);
  await using daemon = await startGateway({ ...context, directory }, upstream, { stub, proxy, fieldPort });
  const rig = { stub, proxy, fieldPort };
  let round = 0;
  const measured = (): Promise<Drain> =>
    drain(rig, (round += 1)).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${daemon.log()}`, { cause: error });
    });
  const rounds = context.quick ? 2 : 5;
  const fast: Drain[] = [];
  while (fast.length < rounds) fast.push(await measured());
  proxy.throttle(SLOW_BYTES_PER_SEC);
  const slow = [await measured()];
  await daemon.stop();
  const row = (drains: readonly Drain[], link: string): BenchRow => {
    const latenciesMs = drains.flatMap((one) => one.latenciesMs);
    const p99Ms = quantile(latenciesMs, 0.99);
    context.progress(`${upstream}, ${link}: p99 ${p99Ms.toFixed(0)} ms of ${latenciesMs.length}`);
    return {
      what: `${whole(BACKLOG)} messages of ${BODY_BYTES} B drain over ${upstream === 'amqp' ? 'AMQP' : 'AMQP to IoT Hub'}, ${link}: p99 of a live device at ${1000 / LIVE_EVERY_MS}/s`,
      measured: `median ${median(latenciesMs).toFixed(0)} ms, p99 ${p99Ms.toFixed(0)} ms of ${latenciesMs.length} messages; drained in ${drains.map(({ secs }) => secs.toFixed(1)).join(', ')} s`,
      value: p99Ms / 1000,
      unit: 's',
      bar: atMost(BAR_SECS),
    };
  };
  return [row(fast, 'as fast as it goes'), row(slow, `at ${whole(SLOW_BYTES_PER_SEC)} B/s`)];
}

/** Fills the outbox while the upstream is away, then lets it drain beside the live device. */
async function drain({ stub, proxy, fieldPort }: Rig, round: number): Promise<Drain> {
  await proxy.refuse();
  const away = sleep(AWAY_MS);
  const backlog = await startLoad({
    host: ADDRESS,
    port: fieldPort,
    publishers: PUBLISHERS,
    bodyBytes: BODY_BYTES,
    window: 256,
    messages: BACKLOG / PUBLISHERS,
  });
  await backlog.acknowledged;
  backlog.close();
  const live = await startLive(stub, fieldPort, round);
  await away;
  const { messages: before } = await stub.tally();
  const arrived = (count: number, everyMs: number): Promise<boolean> =>
    waitFor(async () => (await stub.tally()).messages >= before + count, { timeoutMs: 300_000, everyMs });
  await proxy.listen();
  await arrived(1, 5);
  const beganMs = performance.now();
  await arrived(BACKLOG, 20);
  const endedMs = performance.now();
  return { secs: (endedMs - beganMs) / 1000, latenciesMs: await live.stop(beganMs, endedMs) };
}

/** A device that sends ten messages a second, until `stop`, which tells how long those took that were sent between two times. */
async function startLive(
  stub: HubStub,
  port: number,
  round: number,
): Promise<{ stop(fromMs: number, toMs: number): Promise<readonly number[]> }> {
  const socket = await openClient({ host: ADDRESS, port }, 'live');
  const { packet, idAt, bodyAt } = publishPacket(PUBLISHERS, BODY_BYTES);
  packet.writeUInt16BE(1, idAt);
  packet.writeUInt32BE(round, bodyAt);
  packet.write(MARKER, bodyAt + MARKER_AT);
  /** By the message's number; `performance.now()`. */
  const sentMs: number[] = [];
  const arrivedMs = new Map<number, number>();
  stub.watch(MARKER, ({ body, atMs }) => {
    const bytes = Buffer.from(body, 'base64');
    const number = bytes.readUInt32BE(4);
    // Of a message that comes twice the first counts: where a cut took its answer away, the second comes in the next round.
    if (bytes.readUInt32BE(0) === round && !arrivedMs.has(number)) arrivedMs.set(number, atMs - performance.timeOrigin);
  });
  let acknowledged = 0;
  // Only PUBACKs of four bytes come.
  socket.on('data', (bytes: Buffer) => (acknowledged += bytes.length / 4));
  const timer = setInterval(() => {
    packet.writeUInt32BE(sentMs.length, bodyAt + 4);
    sentMs.push(performance.now());
    socket.write(Buffer.from(packet));
  }, LIVE_EVERY_MS);
  return {
    async stop(fromMs, toMs) {
      clearInterval(timer);
      await waitFor(() => arrivedMs.size === sentMs.length, {
        timeoutMs: 60_000,
        what: 'every message of the live device',
      }).catch((error: unknown) => {
        const missing = [...sentMs.keys()].filter((number) => !arrivedMs.has(number)).join(', ');
        throw new Error(`${String(error)} Of ${sentMs.length}, ${acknowledged} stored; missing: ${missing}.`);
      });
      socket.destroy();
      return sentMs.flatMap((sent, number) =>
        sent >= fromMs && sent <= toMs ? [(arrivedMs.get(number) ?? Infinity) - sent] : [],
      );
    },
  };
}

async function startGateway(
  context: BenchContext,
  upstream: StubUpstream,
  { stub, proxy, fieldPort }: Rig,
): Promise<BenchDaemon> {
  const webPort = await freePort(ADDRESS);
  const daemon = spawnDaemon({
    daemon: context.daemon,
    directory: join(context.directory, 'gateway'),
    web: `${ADDRESS}:${webPort}`,
    config: `gateway: { id: bench }
${mqttFieldYaml(ADDRESS, fieldPort)}
upstream: ${upstreamYaml(upstream, stub, proxy)}
outbox: { min_free_bytes: 0 }
web: { address: ${ADDRESS}, port: ${webPort} }
`,
  });
  await daemon.ready();
  return daemon;
}
