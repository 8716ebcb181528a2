// The main job, on the built daemon: a Modbus meter's values arrive at Mosquitto through an outbox that survives kill -9.

import { connectAsync } from 'mqtt';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ModbusServer } from '../sim/modbus-server.ts';
import { startTcpProxy, type TcpProxy } from '../sim/tcp-proxy.ts';
import { freePort } from '../support/free-port.ts';
import { startMosquitto, type Mosquitto } from '../support/mosquitto.ts';
import type { TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';
import { runFieldpost, startDaemon, temporaryDirectory } from './daemon-process.ts';

const ADDRESS = '127.0.70.1';

interface MeterMessage {
  readonly device: string;
  readonly time: string;
  readonly epoch: string;
  readonly seq: number;
  readonly values: Readonly<Record<string, number>>;
  readonly quality?: Readonly<Record<string, string>>;
}

describe('the main path', () => {
  let directory: TempDir;
  let meter: ModbusServer;
  let broker: Mosquitto;
  let proxy: TcpProxy;
  let web: string;
  let config: string;
  let received: MeterMessage[];
  let unsubscribe: () => Promise<void>;

  beforeEach(async () => {
    directory = temporaryDirectory();
    meter = new ModbusServer({ host: ADDRESS });
    const identification = new Map([
      [0, 'ACME'],
      [1, 'EM-1'],
      [2, '1.2'],
    ]);
    meter.addDevice(1, { identification }).set('input', 0, [0x4366, 0x199a]);
    await meter.listen();
    broker = await startMosquitto({ address: ADDRESS });
    proxy = await startTcpProxy({ target: { host: ADDRESS, port: broker.port }, address: '127.0.70.2' });
    web = `${ADDRESS}:${await freePort(ADDRESS)}`;
    config = `
gateway: { id: plant-7 }
adapters:
  bus-1:
    type: modbus
    transport: { kind: tcp, host: ${ADDRESS}, port: ${meter.port} }
    devices:
      meter-1:
        unit_id: 1
        poll_interval_ms: 100
        points:
          voltage: { register: input:0, type: float32, unit: V }
          setpoint: { register: holding:5, type: int16, scale: 0.1, writable: true }
upstream: { type: mqtt, url: "mqtt://${proxy.address}:${proxy.port}" }
outbox: { min_free_bytes: 0 }
web: { address: ${ADDRESS}, port: ${web.split(':')[1]} }
`;
    received = [];
    const client = await connectAsync(broker.url);
    client.on('message', (_topic, payload) => received.push(JSON.parse(payload.toString()) as MeterMessage));
    await client.subscribeAsync('fieldpost/plant-7/meter-1/telemetry', { qos: 1 });
    unsubscribe = () => client.endAsync();
  });

  afterEach(async () => {
    await unsubscribe();
    await proxy.close();
    await broker[Symbol.asyncDispose]();
    await meter.close();
    directory.remove();
  });

  it('loses nothing through a cut link and two kills, and numbers every message', async () => {
    const first = await startDaemon({ config, web, directory });
    await waitFor(() => received.length >= 5, { timeoutMs: 20_000, what: 'the first values' });
    expect(received[0]).toMatchObject({ device: 'meter-1', values: { voltage: 230.1, setpoint: 0 } });
    expect(received[0]?.time).toMatch(/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);

    await proxy.refuse();
    const waiting = async (least: number): Promise<boolean> => (await first.status()).outbox.messages >= least;
    await waitFor(() => waiting(15), { timeoutMs: 20_000, what: 'messages to wait while the link is cut' });
    expect((await first.status()).endpoints[0]).toMatchObject({ name: '$upstream', connected: false });
    await first.kill('SIGKILL');

    const second = await startDaemon({ config, web, directory });
    const stored = (await second.status()).outbox.messages;
    expect(stored).toBeGreaterThanOrEqual(15);
    await second.kill('SIGKILL');
    await proxy.listen();

    const third = await startDaemon({ config, web, directory });
    const highest = (): number => Math.max(...received.map(({ seq }) => seq));
    await waitFor(() => highest() > stored + 10, { timeoutMs: 30_000, what: 'live values after the outage' });
    await waitFor(async () => (await third.status()).outbox.messages < 5, {
      timeoutMs: 30_000,
      what: 'the backlog to drain',
    });
    expect(await third.kill('SIGTERM')).toBe(0);

    const sequence = [...new Set(received.map(({ seq }) => seq))].sort((a, b) => a - b);
    expect(sequence).toEqual(Array.from({ length: sequence.length }, (_, index) => index + 1));
    expect(new Set(received.map(({ epoch }) => epoch)).size).toBe(1);
  });

  it('shows itself: page, health, metrics, status', async () => {
    await using daemon = await startDaemon({ config, web, directory });
    await waitFor(() => received.length >= 3, { timeoutMs: 20_000, what: 'the first values' });
    const page = await daemon.get('/');
    expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
    const health = await daemon.get('/health');
    expect([health.status, await health.json()]).toEqual([
      200,
      { live: true, ready: true, degraded: false, reasons: [] },
    ]);
    const metrics = await daemon.get('/metrics');
    expect(metrics.status).toBe(200);
    const text = await metrics.text();
    const value = (name: string): number =>
      Number(new RegExp(`^${name.replaceAll(/[$.{}"]/g, '\\$&')} (\\S+)$`, 'm').exec(text)?.[1]);
    expect(value('fieldpost_messages_delivered_total{endpoint="$upstream"}')).toBeGreaterThanOrEqual(3);
    expect(value('fieldpost_messages_received_total{source="poll"}')).toBeGreaterThanOrEqual(3);
    expect(value('fieldpost_upstream_connected{endpoint="$upstream"}')).toBe(1);
    expect(value('fieldpost_outbox_messages')).toBeLessThan(10);
  });

  it('writes to a point from the command line and reads it back, and refuses what is not writable', async () => {
    await using daemon = await startDaemon({ config, web, directory });
    const data = ['--data', daemon.dataDirectory];
    await waitFor(async () => (await daemon.status()).adapters[0]?.devices.good === 1, { what: 'the meter' });
    const good = await runFieldpost(['write', ...data, 'meter-1', 'setpoint', '--', '-12.5']);
    expect(good).toMatchObject({ code: 0, out: expect.stringContaining('-12.5') as string });
    expect(meter.requests.some(({ functionCode, address }) => functionCode === 6 && address === 5)).toBe(true);
    await waitFor(() => received.at(-1)?.values['setpoint'] === -12.5, { what: 'the value in a message' });
    expect(await runFieldpost(['write', ...data, 'meter-1', 'voltage', '1'])).toMatchObject({
      code: 2,
      err: expect.stringContaining('not writable') as string,
    });
    expect((await runFieldpost(['write', ...data, 'meter-9', 'voltage', '1'])).code).toBe(2);
  });

  it('asks a meter who it is', async () => {
    await using daemon = await startDaemon({ config, web, directory });
    const data = ['--data', daemon.dataDirectory];
    await waitFor(async () => (await daemon.status()).adapters[0]?.devices.good === 1, { what: 'the meter' });
    const told = await runFieldpost(['identify', ...data, 'meter-1']);
    expect(told).toMatchObject({ code: 0, out: 'vendor_name: ACME\nproduct_code: EM-1\nrevision: 1.2\n' });
    expect((await runFieldpost(['identify', ...data, 'meter-9'])).code).toBe(2);
  });

  it('shows a dead meter as bad with a reason, says so once, and comes back by itself', async () => {
    await using daemon = await startDaemon({ config, web, directory });
    await waitFor(() => received.length >= 2, { timeoutMs: 20_000 });
    meter.setAnswering(false);
    await waitFor(() => received.at(-1)?.quality !== undefined, { timeoutMs: 30_000, what: 'bad quality' });
    expect(received.at(-1)?.quality?.['voltage']).toMatch(/^bad:/);
    const { adapters } = await daemon.status();
    expect(adapters[0]?.devices.good).toBe(0);
    meter.setAnswering(true);
    await waitFor(() => received.at(-1)?.values['voltage'] !== undefined, { timeoutMs: 40_000, what: 'values again' });
  });
});
