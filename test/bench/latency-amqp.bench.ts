// How soon the first message is delivered over AMQP, to a broker and to IoT Hub, when the way there is back. Either is a bare rhea,
// so that what is measured is the gateway.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startModbusServer, type ModbusServer } from '../sim/modbus-server.ts';
import { startTcpProxy } from '../sim/tcp-proxy.ts';
import { freePort } from '../support/free-port.ts';
import { waitFor } from '../support/wait.ts';
import { atMost, type BenchContext, type BenchRow } from './bench.ts';
import { spawnDaemon, type BenchDaemon } from './daemon.ts';
import { createLink, FAR_ADDRESS, IN_FAR_NAMESPACE } from './far-link.ts';
import { startHubStub, STUB_UPSTREAMS, upstreamYaml, type HubStub, type StubUpstream } from './iothub-stub.ts';

const ADDRESS = '127.0.162.3';
const BAR_SECS = 3;
const LOOK_MS = 5;
const ARRIVES_MS = 90_000;
/** Where the gateway finds its upstream. */
interface Way {
  readonly address: string;
  readonly port: number;
  cut(): Promise<unknown>;
  mend(): Promise<unknown>;
}

/** Seconds, in the order of the times away. Each upstream has a gateway of its own, whose only device has its name. */
type Results = Readonly<Record<StubUpstream, number[]>>;

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  const awaySecs = context.quick ? [0, 15] : [0, 15, 60, 120];
  const meter = await startModbusServer({ host: ADDRESS });
  meter.addDevice(1);
  context.progress(`away for ${awaySecs.join(', ')} s`);
  try {
    const ways = await Promise.allSettled([
      throughProxy(context, meter, awaySecs),
      throughLink(context, meter, awaySecs),
    ]);
    // Where one fails, the other has ended its processes as well.
    const [refused, vanished] = ways.map(resultOf) as [Results, Results];
    const left = context.quick ? ' (60 and 120 s only in a run that is not quick)' : '';
    const row = (upstream: StubUpstream, name: string, { [upstream]: secs }: Results, how: string): BenchRow => ({
      what: `${name} back → first delivery, after ${awaySecs.join(', ')} s away${left}: ${how}`,
      measured: `${secs.map((value) => value.toFixed(2)).join(', ')} s; a message a second`,
      value: Math.max(...secs),
      unit: 's',
      bar: atMost(BAR_SECS),
    });
    const names = { amqp: 'upstream over AMQP', iothub: 'IoT Hub over AMQP' };
    return STUB_UPSTREAMS.flatMap((upstream) => [
      row(upstream, names[upstream], refused, 'connections reset, then refused'),
      row(upstream, names[upstream], vanished, 'packets vanish on the way and nobody is told'),
    ]);
  } finally {
    await meter.close();
  }
}

function resultOf(way: PromiseSettledResult<Results>): Results {
  if (way.status === 'rejected') throw way.reason;
  return way.value;
}

async function throughProxy(context: BenchContext, meter: ModbusServer, awaySecs: readonly number[]): Promise<Results> {
  const directory = join(context.directory, 'refused');
  mkdirSync(directory);
  await using stub = await startHubStub({ address: ADDRESS, directory });
  await using proxy = await startTcpProxy({ target: { host: ADDRESS, port: stub.port }, address: ADDRESS });
  const { port } = proxy;
  const way = { address: ADDRESS, port, cut: () => proxy.refuse(), mend: () => proxy.listen() };
  return await returns({ ...context, directory }, meter, stub, way, awaySecs);
}

async function throughLink(context: BenchContext, meter: ModbusServer, awaySecs: readonly number[]): Promise<Results> {
  const directory = join(context.directory, 'vanished');
  mkdirSync(directory);
  await using link = await createLink();
  await using stub = await startHubStub({ address: FAR_ADDRESS, directory, through: IN_FAR_NAMESPACE });
  const { port } = stub;
  const way = { address: FAR_ADDRESS, port, cut: () => link.cut(), mend: () => link.mend() };
  return await returns({ ...context, directory }, meter, stub, way, awaySecs);
}

/** Seconds from the way's return to the first message of each gateway that comes out at its end, for each time away. */
async function returns(
  context: BenchContext,
  meter: ModbusServer,
  stub: HubStub,
  way: Way,
  awaySecs: readonly number[],
): Promise<Results> {
  const arrivedMs: Record<StubUpstream, number[]> = { amqp: [], iothub: [] };
  stub.watch('"device":', ({ body, atMs }) => {
    const { device } = JSON.parse(Buffer.from(body, 'base64').toString()) as { readonly device: string };
    for (const upstream of STUB_UPSTREAMS) if (device === upstream) arrivedMs[upstream].push(atMs);
  });
  await using amqp = await startGateway(context, meter, 'amqp', stub, way);
  await using iothub = await startGateway(context, meter, 'iothub', stub, way);
  const gateways = { amqp, iothub };
  const arrives = (upstream: StubUpstream, afterMs: number, count: number): Promise<number> =>
    waitFor(() => arrivedMs[upstream].filter((atMs) => atMs > afterMs)[count - 1], {
      timeoutMs: ARRIVES_MS,
      everyMs: LOOK_MS,
      what: `message ${count} over ${upstream}`,
    }).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${gateways[upstream].log()}`, { cause: error });
    });
  const results: Results = { amqp: [], iothub: [] };
  for (const secs of awaySecs) {
    const standsMs = nowMs();
    await Promise.all(STUB_UPSTREAMS.map((upstream) => arrives(upstream, standsMs, 2)));
    await way.cut();
    await sleep(secs * 1000);
    const backMs = nowMs();
    await way.mend();
    await Promise.all(
      STUB_UPSTREAMS.map(async (upstream) => {
        results[upstream].push(((await arrives(upstream, backMs, 1)) - backMs) / 1000);
      }),
    );
  }
  await Promise.all([amqp.stop(), iothub.stop()]);
  return results;
}

/** Wall clock, with fractions, as the stub has it. */
function nowMs(): number {
  return performance.timeOrigin + performance.now();
}

async function startGateway(
  context: BenchContext,
  meter: ModbusServer,
  upstream: StubUpstream,
  stub: HubStub,
  way: Way,
): Promise<BenchDaemon> {
  const webPort = await freePort(ADDRESS);
  const daemon = spawnDaemon({
    daemon: context.daemon,
    directory: join(context.directory, upstream),
    web: `${ADDRESS}:${webPort}`,
    config: `
gateway: { id: plant-7 }
adapters:
  bus:
    type: modbus
    transport: { kind: tcp, host: ${ADDRESS}, port: ${meter.port} }
    devices:
      ${upstream}: { unit_id: 1, poll_interval_ms: 1000, points: { voltage: { register: input:0, type: float32 } } }
upstream: ${upstreamYaml(upstream, stub, way)}
outbox: { min_free_bytes: 0 }
web: { address: ${ADDRESS}, port: ${webPort} }
`,
  });
  await daemon.ready();
  return daemon;
}
