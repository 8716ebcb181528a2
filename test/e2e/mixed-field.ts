// Fifty leaf devices of all kinds: pymodbus on TCP and on a serial line, instruments on another line, MQTT devices, and devices on
// the vendor's SDKs, which come through the gateway with tokens of the cloud.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { connectAsync } from 'mqtt';
import { SerialInstrument } from '../sim/serial-instrument.ts';
import { freePort } from '../support/free-port.ts';
import { HUB_HOST_NAME, type HubDaemon } from '../support/hub-daemon.ts';
import { startDevice } from '../support/sdk-child.ts';
import { serialLine } from '../support/serial-line.ts';

const LEAVES = 50;
const BAUD_RATE = 115_200;
const POLL_MS = 1000;
/** Between two messages of a device that sends by itself. */
const SEND_MS = 500;

const PLCS = named('plc', 12);
const METERS = named('meter', 6);
const SCALES = named('scale', 8);

export interface MixedField extends AsyncDisposable {
  readonly devices: readonly string[];
  /** Those that the gateway asks; their messages are numbered without a gap. */
  readonly polled: readonly string[];
  /** `adapters:` of the gateway. */
  readonly adapters: object;
  /** Where pymodbus serves the PLCs: coil N of unit 1 is the relay of `plc-(N + 1)`, for an even N. */
  readonly plcs: { readonly host: string; readonly port: number };
  /** What was acknowledged to the devices that sent it: `{device}.{count}`. */
  readonly acknowledged: readonly string[];
  /** Those that send by themselves begin. @param keyOf base64, of a device's identity in the cloud. */
  startSending(gateway: HubDaemon, keyOf: (deviceId: string) => string): void;
  /** Resolves when the last message was acknowledged. */
  stopSending(): Promise<void>;
}

/** @param sdkDevices of each of the two protocols; every one is a process. */
export async function startMixedField(address: string, sdkDevices: number): Promise<MixedField> {
  await using failed = new AsyncDisposableStack();
  const sdk = { mqtt: named('sdk-mqtt', sdkDevices), amqp: named('sdk-amqp', sdkDevices) };
  const polled = [...PLCS, ...METERS, ...SCALES];
  const sensors = named('sensor', LEAVES - polled.length - 2 * sdkDevices);
  const [scales, meters] = [failed.use(await serialLine()), failed.use(await serialLine())];
  const answer = (request: string): string => `${request.slice(0, 2)} 12.5 kg\r\n`;
  failed.use(await SerialInstrument.open({ path: scales.far, baudRate: BAUD_RATE, answer }));
  const [plcPort, brokerPort] = [await freePort(address), await freePort(address)];
  for (const args of [
    ['tcp', address, String(plcPort)],
    ['rtu', meters.far, String(BAUD_RATE)],
  ]) {
    const slave = await startPymodbus(args);
    failed.defer(() => void slave.kill('SIGKILL'));
  }
  const acknowledged: string[] = [];
  const stopping = new AbortController();
  let sending: readonly Promise<void>[] = [];

  /** One after the other until all stop, each when the one before it was acknowledged. */
  async function repeat(deviceId: string, send: (body: string) => Promise<unknown>): Promise<void> {
    for (let count = 0; !stopping.signal.aborted; count += 1) {
      const body = `${deviceId}.${count}`;
      await send(body);
      acknowledged.push(body);
      await pause(SEND_MS);
    }
  }

  async function publish(deviceId: string): Promise<void> {
    const client = await connectAsync(`mqtt://${address}:${brokerPort}`, { clientId: deviceId, reconnectPeriod: 200 });
    client.on('error', () => {});
    await repeat(deviceId, (body) => client.publishAsync(`sensors/${deviceId}/telemetry`, body, { qos: 1 }));
    await client.endAsync();
  }

  async function sendBySdk(
    deviceId: string,
    key: string,
    transport: 'mqtt' | 'amqp',
    authorityPath: string,
  ): Promise<void> {
    await using child = startDevice({ hub: { address, authorityPath } });
    const identity = `HostName=${HUB_HOST_NAME};DeviceId=${deviceId};SharedAccessKey=${key}`;
    await child.call('open', `${identity};GatewayHostName=${address}`, transport);
    await repeat(deviceId, (body) =>
      child.call('send', { body, system: { messageId: body, contentType: 'text/plain' } }),
    );
    await child.call('close');
  }

  const stack = failed.move();
  return {
    devices: [...polled, ...sensors, ...sdk.mqtt, ...sdk.amqp],
    polled,
    plcs: { host: address, port: plcPort },
    adapters: {
      plcs: modbusAdapter({ kind: 'tcp', host: address, port: plcPort }, PLCS),
      meters: modbusAdapter({ kind: 'rtu', path: meters.near, baud_rate: BAUD_RATE }, METERS),
      scales: scaleAdapter(scales.near),
      sensors: {
        type: 'mqtt',
        listen: { address, port: brokerPort },
        anonymous: 'loopback',
        topics: [{ topic: 'sensors/{device_id}/telemetry', content_type: 'text/plain' }],
      },
    },
    acknowledged,
    startSending({ authorityPath }, keyOf) {
      sending = [
        ...sensors.map(publish),
        ...sdk.mqtt.map((deviceId) => sendBySdk(deviceId, keyOf(deviceId), 'mqtt', authorityPath)),
        ...sdk.amqp.map((deviceId) => sendBySdk(deviceId, keyOf(deviceId), 'amqp', authorityPath)),
      ];
      // Told by whoever waits for the end.
      for (const one of sending) one.catch(() => {});
    },
    async stopSending() {
      stopping.abort();
      await Promise.all(sending);
    },
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await stack.disposeAsync();
    },
  };
}

function named(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}-${index + 1}`);
}

async function startPymodbus(args: readonly string[]): Promise<ChildProcess> {
  const script = join(import.meta.dirname, '..', 'sim', 'pymodbus-server.py');
  const child = spawn('/usr/bin/python3', [script, ...args], { stdio: ['pipe', 'pipe', 'ignore'] });
  await once(child.stdout, 'data');
  return child;
}

function modbusAdapter(transport: object, devices: readonly string[]): object {
  const deviceOf = (index: number): object => ({
    unit_id: 1 + (index % 2),
    poll_interval_ms: POLL_MS,
    points: { level: { register: `holding:${index}` }, relay: { register: `coil:${index}`, writable: true } },
  });
  return {
    type: 'modbus',
    transport,
    devices: Object.fromEntries(devices.map((deviceId, index) => [deviceId, deviceOf(index)])),
  };
}

function scaleAdapter(path: string): object {
  const deviceOf = (address: string): object => ({
    address,
    match: `^${address}`,
    request: '{address}W\r\n',
    decode: { kind: 'regex', pattern: '^[0-9]+ (?<weight>[-0-9.]+) kg$', types: { weight: 'number' } },
    poll_interval_ms: POLL_MS,
  });
  return {
    type: 'serial',
    path,
    baud_rate: BAUD_RATE,
    framing: { kind: 'delimiter', delimiter: '\r\n' },
    devices: Object.fromEntries(SCALES.map((deviceId, index) => [deviceId, deviceOf(`0${index + 1}`)])),
  };
}
