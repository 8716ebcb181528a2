// Gateway and hub are one, on the built daemon: a Modbus meter and a plain MQTT pump are devices of the hub to a back end on the
// unmodified SDKs, which reads what they measure and writes to them by methods, desired properties and messages.

import { connectAsync, type MqttClient } from 'mqtt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SimDevice } from '../sim/modbus-device.ts';
import { ModbusServer } from '../sim/modbus-server.ts';
import { startHubDaemon, type HubDaemon } from '../support/hub-daemon.ts';
import { freePort } from '../support/free-port.ts';
import { startBackEnd, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.108.6';
const SETPOINT = 5;

interface ReadEvent {
  readonly body: { readonly values?: Readonly<Record<string, unknown>> };
  readonly systemProperties: Readonly<Record<string, unknown>>;
}

interface TwinJson {
  readonly connectionState: string;
  readonly properties: { readonly reported: Readonly<Record<string, unknown>> };
}

interface IdentityJson {
  readonly generationId: string;
  readonly connectionState: string;
  readonly cloudToDeviceMessageCount: number;
}

describe("adapters' devices in the local hub", () => {
  let directory: TempDir;
  let meter: ModbusServer;
  let daemon: HubDaemon;
  let backEnd: SdkChild;
  let registers: SimDevice | undefined;
  let pump: MqttClient;
  let publish: () => void;
  const pumpState = { flow: 12, running: false };

  const twin = (deviceId: string): Promise<TwinJson> =>
    backEnd.call('registry', 'getTwin', deviceId) as Promise<TwinJson>;
  const identity = (deviceId: string): Promise<IdentityJson> =>
    backEnd.call('registry', 'get', deviceId) as Promise<IdentityJson>;
  const isConnected = (deviceId: string, is = true): Promise<unknown> =>
    waitFor(
      async () => {
        // Not before it has shown itself.
        const { connectionState } = await identity(deviceId).catch(() => ({ connectionState: 'Disconnected' }));
        return (connectionState === 'Connected') === is;
      },
      { timeoutMs: 30_000, everyMs: 100, what: `${deviceId} ${is ? 'good' : 'away'}` },
    );
  const write = (deviceId: string, values: object) =>
    backEnd.call('invoke', deviceId, { methodName: 'write', payload: { values }, responseTimeoutInSeconds: 10 });
  /** The statuses of messages by their ids, as far as the back end was told. */
  const told = (): Record<string, string> =>
    Object.fromEntries(
      backEnd.events
        .filter(({ event }) => event === 'feedback')
        .flatMap(({ data }) => data as readonly { originalMessageId: string; statusCode: string }[])
        .map(({ originalMessageId, statusCode }) => [originalMessageId, statusCode]),
    );
  const setpoint = (): number | undefined => registers?.holding[SETPOINT];

  const startMeter = async (port: number): Promise<ModbusServer> => {
    const server = new ModbusServer({ host: ADDRESS, port });
    registers = server.addDevice(1);
    registers.set('input', 0, [0x4366, 0x199a]);
    await server.listen();
    return server;
  };

  beforeAll(async () => {
    directory = createTempDir('hub-field');
    meter = await startMeter(0);
    const mqttPort = await freePort(ADDRESS);
    const points = {
      flow: { pointer: '/flow', type: 'number' },
      running: { pointer: '/running', type: 'boolean', writable: true },
    };
    daemon = await startHubDaemon({
      address: ADDRESS,
      directory,
      built: true,
      config: {
        adapters: {
          'bus-1': {
            type: 'modbus',
            transport: { kind: 'tcp', host: ADDRESS, port: meter.port },
            devices: {
              'meter-1': {
                unit_id: 1,
                poll_interval_ms: 100,
                points: {
                  voltage: { register: 'input:0', type: 'float32', unit: 'V' },
                  setpoint: { register: `holding:${SETPOINT}`, type: 'int16', writable: true },
                },
              },
            },
          },
          field: {
            type: 'mqtt',
            listen: { address: ADDRESS, port: mqttPort },
            clients: [{ username: 'pump-3', password: 'pump-secret' }],
            topics: [{ topic: 'pumps/{device_id}/telemetry', points }],
            command: { topic: 'pumps/{device_id}/set', timeout_ms: 2000 },
          },
        },
      },
    });
    backEnd = startBackEnd({ hub: daemon });
    await backEnd.call('openRegistry', daemon.owner);
    await backEnd.call('openClient', daemon.owner);
    await backEnd.call('onFeedback');
    await backEnd.call('readEvents', { connectionString: daemon.events });
    pump = await connectAsync(`mqtt://${ADDRESS}:${mqttPort}`, { username: 'pump-3', password: 'pump-secret' });
    publish = () => void pump.publish('pumps/pump-3/telemetry', JSON.stringify(pumpState), { qos: 1 });
    pump.on('message', (_topic, payload) => {
      Object.assign(pumpState, JSON.parse(payload.toString()));
      publish();
    });
    await pump.subscribeAsync('pumps/pump-3/set');
    publish();
    await isConnected('meter-1');
    await isConnected('pump-3');
  });

  afterAll(async () => {
    pump?.end(true);
    await backEnd?.kill();
    await daemon?.kill('SIGKILL');
    await meter?.close();
    directory.remove();
  });

  it('are registered by themselves, and what they measure are their events', async () => {
    publish();
    for (const [deviceId, point] of [
      ['meter-1', 'voltage'],
      ['pump-3', 'flow'],
    ] as const) {
      const { generationId } = await identity(deviceId);
      const isOwn = ({ systemProperties, body }: ReadEvent): boolean =>
        systemProperties['iothub-connection-device-id'] === deviceId &&
        body.values?.[point] !== undefined &&
        systemProperties['iothub-connection-auth-generation-id'] === generationId;
      const event = await backEnd.nextEvent<ReadEvent>('event', isOwn, 30_000);
      expect(event.systemProperties['iothub-message-source']).toBe('Telemetry');
    }
    expect(await twin('meter-1')).toMatchObject({ connectionState: 'Connected' });
  });

  it('are written by the method, and report what they confirm', async () => {
    expect(await write('meter-1', { setpoint: 42 })).toEqual({ status: 200, payload: { values: { setpoint: 42 } } });
    expect(setpoint()).toBe(42);
    expect(await write('pump-3', { running: true })).toEqual({ status: 200, payload: { values: { running: true } } });
    expect(pumpState.running).toBe(true);
    await waitFor(async () => (await twin('meter-1')).properties.reported['setpoint'] === 42);
    await waitFor(async () => (await twin('pump-3')).properties.reported['running'] === true);
    expect(await write('meter-1', { voltage: 1 })).toMatchObject({ status: 400 });
  });

  it('follow their desired properties', async () => {
    await backEnd.call('registry', 'updateTwin', 'meter-1', { properties: { desired: { setpoint: 43 } } }, '*');
    await waitFor(() => setpoint() === 43, { what: 'the write' });
    await waitFor(async () => (await twin('meter-1')).properties.reported['setpoint'] === 43);
    await backEnd.call('registry', 'updateTwin', 'pump-3', { properties: { desired: { running: false } } }, '*');
    await waitFor(() => !pumpState.running, { what: 'the write' });
    await waitFor(async () => (await twin('pump-3')).properties.reported['running'] === false);
  });

  it('take messages, and the back end hears what became of them', async () => {
    const send = (deviceId: string, messageId: string, body: unknown): Promise<unknown> =>
      backEnd.call('sendCommand', deviceId, { body: JSON.stringify(body), system: { messageId, ack: 'full' } });
    await send('meter-1', 'm1', { values: { setpoint: 44 } });
    await send('pump-3', 'm2', { running: true });
    await send('meter-1', 'm3', { voltage: 1 });
    await waitFor(() => setpoint() === 44 && pumpState.running, { what: 'the writes' });
    await waitFor(() => 'm3' in told(), { timeoutMs: 40_000, everyMs: 100, what: 'the feedback' });
    expect(told()).toMatchObject({ m1: 'Success', m2: 'Success', m3: 'Rejected' });
  });

  it('that are away count as disconnected: methods are refused, messages and desired properties wait', async () => {
    const { port } = meter;
    await meter.close();
    await isConnected('meter-1', false);
    await expect(write('meter-1', { setpoint: 45 })).rejects.toMatchObject({ statusCode: 404 });
    const message = { body: '{"setpoint":46}', system: { messageId: 'm4', ack: 'full' } };
    await backEnd.call('sendCommand', 'meter-1', message);
    expect((await identity('meter-1')).cloudToDeviceMessageCount).toBe(1);
    meter = await startMeter(port);
    await waitFor(async () => (await identity('meter-1')).cloudToDeviceMessageCount === 0, {
      timeoutMs: 60_000,
      everyMs: 100,
      what: 'the message that waited',
    });
    await waitFor(() =>
      meter.requests.some(({ functionCode, pdu }) => functionCode === 6 && pdu.readUInt16BE(3) === 46),
    );
    await waitFor(() => told()['m4'] === 'Success', { timeoutMs: 40_000, everyMs: 100, what: 'the feedback' });
  });
});
