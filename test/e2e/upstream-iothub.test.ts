// Two daemons: one is the cloud, a local hub watched by the unmodified SDKs of a back end; the other is a gateway with a Modbus
// meter, whose values go up under the gateway's identity and whose points are written from the back end, while the link is cut.

import { stringify } from 'yaml';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GatewayStatus } from '../../src/core/admin.ts';
import type { SimDevice } from '../sim/modbus-device.ts';
import { ModbusServer } from '../sim/modbus-server.ts';
import { startTcpProxy, type TcpProxy } from '../sim/tcp-proxy.ts';
import {
  deviceConnectionString,
  HUB_HOST_NAME,
  MQTTS_PORT,
  startHubDaemon,
  type HubDaemon,
} from '../support/hub-daemon.ts';
import { freePort } from '../support/free-port.ts';
import { startBackEnd, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';
import { startDaemon, temporaryDirectory, type DaemonProcess, type StartOptions } from './daemon-process.ts';

const ADDRESS = '127.0.143.3';
const KEY = Buffer.alloc(32, 5).toString('base64');
const SETPOINT = 5;

interface ReadEvent {
  readonly body: {
    readonly device?: string;
    readonly seq?: number;
    readonly values?: Readonly<Record<string, unknown>>;
    readonly quality?: unknown;
  };
  readonly messageId: string;
  readonly properties: Readonly<Record<string, unknown>>;
  readonly systemProperties: Readonly<Record<string, unknown>>;
}

interface TwinJson {
  readonly properties: {
    readonly reported: { readonly devices?: Readonly<Record<string, Readonly<Record<string, unknown>>>> };
  };
}

const isRefused = (value: unknown, status: number): boolean =>
  typeof value === 'object' && value !== null && 'ac' in value && value.ac === status;

describe('a gateway on Azure IoT Hub', () => {
  let directories: TempDir[];
  let meter: ModbusServer;
  let registers: SimDevice;
  let cloud: HubDaemon;
  let proxy: TcpProxy;
  let gateway: DaemonProcess;
  let start: StartOptions;
  let backEnd: SdkChild;

  const events = (): ReadEvent[] =>
    backEnd.events.filter(({ event }) => event === 'event').map(({ data }) => data as ReadEvent);
  const invoke = (methodName: string, payload: unknown): Promise<unknown> =>
    backEnd.call('invoke', 'plant-7', {
      methodName,
      payload,
      responseTimeoutInSeconds: 10,
      connectTimeoutInSeconds: 10,
    });

  const desire = (values: Readonly<Record<string, unknown>>): Promise<unknown> =>
    backEnd.call(
      'registry',
      'updateTwin',
      'plant-7',
      { properties: { desired: { devices: { 'meter-1': values } } } },
      '*',
    );
  const reported = async (): Promise<Readonly<Record<string, unknown>>> => {
    const twin = (await backEnd.call('registry', 'getTwin', 'plant-7')) as TwinJson;
    return twin.properties.reported.devices?.['meter-1'] ?? {};
  };

  beforeAll(async () => {
    directories = [createTempDir('iothub-cloud'), temporaryDirectory()];
    const [cloudDirectory, directory] = directories as [TempDir, TempDir];
    meter = new ModbusServer({ host: ADDRESS, port: 0 });
    registers = meter.addDevice(1);
    registers.set('input', 0, [0x4366, 0x199a]);
    await meter.listen();
    cloud = await startHubDaemon({ address: ADDRESS, directory: cloudDirectory, built: true });
    proxy = await startTcpProxy({ target: { host: ADDRESS, port: MQTTS_PORT }, address: ADDRESS });
    backEnd = startBackEnd({ hub: cloud });
    await backEnd.call('openRegistry', cloud.owner);
    await backEnd.call('openClient', cloud.owner);
    await backEnd.call('registry', 'create', {
      deviceId: 'plant-7',
      authentication: { symmetricKey: { primaryKey: KEY, secondaryKey: KEY } },
    });
    await backEnd.call('readEvents', { connectionString: cloud.events });
    const web = await freePort(ADDRESS);
    const config = {
      gateway: { id: 'gateway-1' },
      outbox: { min_free_bytes: 0 },
      web: { address: ADDRESS, port: web },
      adapters: {
        'bus-1': {
          type: 'modbus',
          transport: { kind: 'tcp', host: ADDRESS, port: meter.port },
          devices: {
            'meter-1': {
              unit_id: 1,
              poll_interval_ms: 50,
              points: {
                voltage: { register: 'input:0', type: 'float32', unit: 'V' },
                setpoint: { register: `holding:${SETPOINT}`, type: 'int16', writable: true },
              },
            },
          },
        },
      },
      upstream: {
        type: 'iothub',
        connection_string: deviceConnectionString('plant-7', KEY),
        gateway_host_name: ADDRESS,
        port: proxy.port,
        ca: cloud.authority,
        protocol: 'mqtt',
      },
    };
    start = { config: stringify(config), web: `${ADDRESS}:${web}`, directory };
    gateway = await startDaemon(start);
  });

  afterAll(async () => {
    await gateway.kill('SIGKILL');
    await backEnd.kill();
    await cloud.kill('SIGKILL');
    await proxy.close();
    await meter.close();
    for (const directory of directories) directory.remove();
  });

  it('delivers what its meter says, under its own identity', async () => {
    await waitFor(() => events().some(({ body }) => body.values !== undefined), { timeoutMs: 30_000 });
    const event = events().find(({ body }) => body.values !== undefined);
    expect(event).toMatchObject({
      body: { device: 'meter-1', values: { voltage: expect.closeTo(230.1, 3) as unknown } },
      properties: { device_id: 'meter-1' },
      systemProperties: { 'iothub-connection-device-id': 'plant-7' },
    });
  });

  it('writes a point by a direct method and by a message, which is settled then', async () => {
    const values = { setpoint: 21 };
    expect(await invoke('writePoint', { device_id: 'meter-1', values })).toEqual({ status: 200, payload: { values } });
    expect(registers.holding[SETPOINT]).toBe(21);
    expect(await invoke('writePoint', { device_id: 'meter-9', values })).toMatchObject({ status: 404 });
    expect(await invoke('writePoint', { device_id: 'meter-1', values: { voltage: 1 } })).toMatchObject({ status: 400 });
    const command = { body: '{"setpoint":22}', properties: { device_id: 'meter-1' }, system: { messageId: 'c1' } };
    await backEnd.call('sendCommand', 'plant-7', command);
    await waitFor(() => registers.holding[SETPOINT] === 22);
    await expect
      .poll(
        async () =>
          ((await backEnd.call('registry', 'get', 'plant-7')) as Record<string, unknown>)['cloudToDeviceMessageCount'],
      )
      .toBe(0);
  });

  it('follows what is desired, and reports what the meter says then', async () => {
    await desire({ setpoint: 31, voltage: 1 });
    await waitFor(async () => (await reported())['setpoint'] === 31, { timeoutMs: 10_000 });
    expect(registers.holding[SETPOINT]).toBe(31);
    expect(await reported()).toMatchObject({ voltage: { ac: 400, av: 2 } });
    await desire({ setpoint: 70_000, voltage: null });
    await waitFor(async () => isRefused((await reported())['setpoint'], 400), { timeoutMs: 10_000 });
    expect(await reported()).toMatchObject({ setpoint: { value: 31, ac: 400, av: 3 } });
    expect(await reported()).not.toHaveProperty('voltage');
    expect(registers.holding[SETPOINT]).toBe(31);
  });

  it('writes nothing desired twice when it is killed over it', async () => {
    const writes = (value: number): number =>
      meter.requests.filter(({ functionCode, pdu }) => functionCode === 6 && pdu.readUInt16BE(3) === value).length;
    meter.behave(({ functionCode, pdu }) => {
      if (functionCode !== 6 || pdu.readUInt16BE(3) !== 32) return undefined;
      void gateway.kill('SIGKILL');
      return { kind: 'silence' };
    });
    await desire({ setpoint: 32 });
    expect(await gateway.exited).toBe('SIGKILL');
    meter.behave(() => undefined);
    gateway = await startDaemon(start);
    await waitFor(async () => isRefused((await reported())['setpoint'], 500), { timeoutMs: 20_000 });
    expect(writes(32)).toBe(1);
    // Nobody knew; now somebody says it again.
    await desire({ setpoint: 32 });
    await waitFor(async () => (await reported())['setpoint'] === 32, { timeoutMs: 10_000 });
    expect(writes(32)).toBe(2);
  });

  it('tells how it is, and tries another configuration until that is confirmed', async () => {
    const status = async (): Promise<GatewayStatus> =>
      ((await invoke('status', undefined)) as { readonly payload: GatewayStatus }).payload;
    const { config: before } = await status();
    const text = (start.config ?? '').replace('poll_interval_ms: 50', 'poll_interval_ms: 40');
    const payload = { text, base: before.generation };
    expect(await invoke('applyConfig', { ...payload, text: 'adapters: 1' })).toMatchObject({ status: 400 });
    expect(await invoke('applyConfig', payload)).toMatchObject({ status: 200 });
    await waitFor(async () => (await status()).config.trialEndsAt !== undefined, { timeoutMs: 10_000 });
    const { generation } = (await status()).config;
    expect(generation).toBe(before.generation + 1);
    expect(await invoke('confirmConfig', { generation })).toMatchObject({ status: 200 });
    expect((await status()).config).not.toHaveProperty('trialEndsAt');
    expect(await invoke('getLogs', { contains: 'config_applied' })).toMatchObject({
      status: 200,
      payload: { lines: [expect.stringContaining('upstream:$upstream')] },
    });
    expect(await invoke('restart', undefined)).toMatchObject({ status: 400 });
  });

  it('accounts for every message when the link is cut ten times', async () => {
    for (let round = 0; round < 10; round += 1) {
      proxy.cutAfter('up', 1500 + 200 * round);
      const { acceptedTotal } = proxy;
      await waitFor(() => proxy.acceptedTotal > acceptedTotal, { timeoutMs: 20_000, what: `cut ${round}` });
    }
    await meter.close();
    const ofMeter = (): ReadEvent['body'][] =>
      events().flatMap(({ body }) => (body.device === 'meter-1' ? [body] : []));
    // The last one says that it does not answer any more.
    await waitFor(() => ofMeter().some(({ quality }) => quality !== undefined), { timeoutMs: 30_000 });
    const last = ofMeter().find(({ quality }) => quality !== undefined)?.seq ?? 0;
    expect(last).toBeGreaterThan(20);
    const seqs = (): number[] => [...new Set(ofMeter().map(({ seq }) => seq ?? 0))].filter((seq) => seq <= last);
    // It may have gone ahead of older ones: after an outage what is fresh goes first.
    await waitFor(() => seqs().length === last, { timeoutMs: 30_000, what: `${last} messages` });
    // What came twice is the same message by its id.
    const ids = new Set(events().map(({ messageId }) => messageId));
    const bodies = new Set(events().map(({ body }) => JSON.stringify(body)));
    expect(ids.size).toBe(bodies.size);
  });

  it('says in plain words that its device was disabled', async () => {
    await backEnd.call('registry', 'update', { deviceId: 'plant-7', status: 'disabled' });
    await waitFor(
      async () =>
        (await gateway.status()).endpoints.some(({ reason }) => reason?.includes('the device is disabled there')),
      { timeoutMs: 20_000, what: `the reason (${HUB_HOST_NAME})` },
    );
  });
});
